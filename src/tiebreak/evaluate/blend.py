"""Blends of several models' probabilities: (n, models, 3) in, (n, 3) out, as scikit-learn estimators.

Every blend treats the answers alike, so P(A) and P(B) exchange to the last bit when the inputs do.

Dimension letters: N rows, M models, C classes (a, b, tie).
"""

from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator

from tiebreak.evaluate.calibration import newton, softmax
from tiebreak.evaluate.metrics import CLIP, targets

Array = NDArray[np.float64]


class EqualBlend(BaseEstimator):  # type: ignore[misc]
    """The plain mean. Fitted: weights_ (models,), all equal."""

    def fit(self, x_NMC: Array, labels: ArrayLike) -> Self:
        self.weights_ = np.full(x_NMC.shape[1], 1 / x_NMC.shape[1])
        return self

    def predict_proba(self, x_NMC: Array) -> Array:
        return _weighted(self.weights_, x_NMC)


class LinearBlend(EqualBlend):
    """A weighted mean, weights not negative and of sum one. Fitted: weights_ (models,)."""

    def fit(self, x_NMC: Array, labels: ArrayLike) -> Self:
        """Least log loss by expectation maximisation of the mixture weights, which the loss is convex in."""
        super().fit(x_NMC, labels)
        y_NC, x_NMC = targets(labels), np.maximum(x_NMC, CLIP)
        for _ in range(2000):
            share_NC = y_NC / _weighted(self.weights_, x_NMC)
            updated = self.weights_ * np.einsum("nc,nmc->m", share_NC, x_NMC) / len(y_NC)
            done = np.abs(updated - self.weights_).max() < 1e-9
            self.weights_ = updated
            if done:
                break
        return self


class LogBlend(BaseEstimator):  # type: ignore[misc]
    """softmax(sum_m w_m log p_m): the weighted geometric mean. Fitted: weights_ (models,).

    The sum of the weights is free and acts as an inverse temperature, so this blend calibrates as well.
    """

    def fit(self, x_NMC: Array, labels: ArrayLike) -> Self:
        start_M = np.full(x_NMC.shape[1], 1 / x_NMC.shape[1])
        log_NCM = np.log(np.maximum(x_NMC, CLIP)).transpose(0, 2, 1)
        self.weights_ = newton(log_NCM, targets(labels), start_M, ridge_K=np.full(len(start_M), 1e-6))
        return self

    def predict_proba(self, x_NMC: Array) -> Array:
        return softmax(_weighted(self.weights_, np.log(np.maximum(x_NMC, CLIP))))


def _weighted(weights_M: Array, x_NMC: Array) -> Array:
    """sum_m w_m x_m, model by model: the same operations for each class."""
    total_NC: Array = weights_M[0] * x_NMC[:, 0]
    for m in range(1, len(weights_M)):
        total_NC = total_NC + weights_M[m] * x_NMC[:, m]
    return total_NC
