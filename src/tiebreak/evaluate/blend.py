"""Blends of several models' probabilities: (n, models, 3) in, (n, 3) out, as scikit-learn estimators.

Every blend treats the answers alike, so P(A) and P(B) exchange to the last bit when the inputs do. Log and matrix
blends of few votes stay near the first model, which is the judge, by the prior of `calibration`.

Dimension letters: N rows, M models, C classes (a, b, tie).
"""

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator

from tiebreak.errors import TiebreakError
from tiebreak.evaluate.calibration import (
    CELLS,
    FLOOR,
    RIDGE,
    family,
    features,
    identity,
    newton,
    product,
    softmax,
    with_prior,
)
from tiebreak.evaluate.metrics import CLIP, targets
from tiebreak.evaluate.selection import best

Array = NDArray[np.float64]


class EqualBlend(BaseEstimator):  # type: ignore[misc]
    """The plain mean. Fitted: weights_ (models,), all equal."""

    def fit(self, x_NMC: Array, labels: ArrayLike) -> Self:
        self.weights_ = np.full(x_NMC.shape[1], 1 / x_NMC.shape[1])
        return self

    def predict_proba(self, x_NMC: Array) -> Array:
        return weighted(self.weights_, x_NMC)


class LinearBlend(EqualBlend):
    """A weighted mean, weights not negative and of sum one. Fitted: weights_ (models,)."""

    def fit(self, x_NMC: Array, labels: ArrayLike) -> Self:
        """Least log loss by expectation maximisation of the mixture weights, which the loss is convex in."""
        super().fit(x_NMC, labels)
        y_NC, x_NMC = targets(labels), np.maximum(x_NMC, CLIP)
        for _ in range(2000):
            share_NC = y_NC / weighted(self.weights_, x_NMC)
            updated = self.weights_ * np.einsum("nc,nmc->m", share_NC, x_NMC) / len(y_NC)
            done = np.abs(updated - self.weights_).max() < 1e-9
            self.weights_ = updated
            if done:
                break
        return self

    def to_json(self) -> dict[str, Any]:
        return {"way": "linear", "weights": self.weights_.tolist()}


class LogBlend(BaseEstimator):  # type: ignore[misc]
    """softmax(sum_m w_m log p_m): the weighted geometric mean. Fitted: weights_ (models,).

    The sum of the weights is free and acts as an inverse temperature, so this blend calibrates as well.
    """

    def __init__(self, prior: float = 1.0) -> None:
        self.prior = prior

    def fit(self, x_NMC: Array, labels: ArrayLike) -> Self:
        start_M = np.full(x_NMC.shape[1], 1 / x_NMC.shape[1])
        log_NCM = np.log(np.maximum(x_NMC, CLIP)).transpose(0, 2, 1)
        y_NC = with_prior(x_NMC[:, 0], labels, self.prior)
        self.weights_ = newton(log_NCM, y_NC, start_M, ridge_K=np.full(len(start_M), RIDGE))
        return self

    def predict_proba(self, x_NMC: Array) -> Array:
        return softmax(weighted(self.weights_, np.log(np.maximum(x_NMC, CLIP))))

    def to_json(self) -> dict[str, Any]:
        return {"way": "log", "weights": self.weights_.tolist()}


class MatrixBlend(BaseEstimator):  # type: ignore[misc]
    """softmax(sum_m W_m log max(p_m, FLOOR) + b), each W_m commuting with the exchange of the answers.

    Stacking (Wolpert 1992) of Dirichlet calibrations. Fitted: coef_ (models, 3, 3), intercept_ (3,).
    """

    def __init__(self, prior: float = 1.0) -> None:
        self.prior = prior

    def fit(self, x_NMC: Array, labels: ArrayLike) -> Self:
        family_KCD = family(CELLS, symmetric=True)
        log_NMC, models = np.log(np.maximum(x_NMC, FLOOR)), x_NMC.shape[1]
        features_NCK = np.concatenate([features(log_NMC[:, m], family_KCD) for m in range(models)], axis=2)
        start_K = np.tile(identity(family_KCD) / models, models)
        y_NC = with_prior(x_NMC[:, 0], labels, self.prior)
        theta_K = newton(features_NCK, y_NC, start_K, ridge_K=np.full(len(start_K), RIDGE))
        map_MCD = np.einsum("mk,kcd->mcd", theta_K.reshape(models, -1), family_KCD)
        self.coef_, self.intercept_ = map_MCD[..., :3], map_MCD[..., 3].sum(axis=0)
        return self

    def predict_proba(self, x_NMC: Array) -> Array:
        log_NMC = np.log(np.maximum(x_NMC, FLOOR))
        z_NC = self.intercept_
        for m, coef_CC in enumerate(self.coef_):
            z_NC = z_NC + product(log_NMC[:, m], coef_CC)
        return softmax(z_NC)

    def to_json(self) -> dict[str, Any]:
        return {"way": "matrix", "coef": self.coef_.tolist(), "intercept": self.intercept_.tolist()}


Blend = LinearBlend | LogBlend | MatrixBlend


def from_json(state: Mapping[str, Any]) -> Blend:
    """What `to_json` of a blend said. Raises ValueError, KeyError or TypeError for anything else."""
    if state["way"] == "matrix":
        matrix = MatrixBlend()
        matrix.coef_, matrix.intercept_ = _numbers(state["coef"], 3), _numbers(state["intercept"], 1)
        if matrix.coef_.shape[1:] != (3, 3) or matrix.intercept_.shape != (3,):
            raise ValueError("a matrix blend has 3 x 3 numbers for each model and 3 beside them")
        return matrix
    weighted_blends: dict[str, LinearBlend | LogBlend] = {"linear": LinearBlend(), "log": LogBlend()}
    blend = weighted_blends[state["way"]]
    blend.weights_ = _numbers(state["weights"], 1)
    return blend


def _numbers(values: Any, dimensions: int) -> Array:
    numbers = np.array(values, dtype=np.float64)
    if numbers.ndim != dimensions or not np.isfinite(numbers).all():
        raise ValueError(f"{values} is not {dimensions}-dimensional, or not of numbers")
    return numbers


def weighted(weights_M: Array, x_NMC: Array) -> Array:
    """sum_m w_m x_m, model by model: the same operations for each class."""
    total_NC: Array = weights_M[0] * x_NMC[:, 0]
    for m in range(1, len(weights_M)):
        total_NC = total_NC + weights_M[m] * x_NMC[:, m]
    return total_NC


WEIGHTINGS = {"equal": EqualBlend(), "fitted": LinearBlend()}
"""Ways to weight models, for nested cross-validation to choose from."""

PROMPTS_TO_FIT = 10
"""Different prompts that choosing weights by nested cross-validation takes at least."""


def best_weights(x_NMC: Array, labels: ArrayLike, groups_N: NDArray[np.integer]) -> Array:
    """Weights (models,): the way of WEIGHTINGS that cross-validates best, fitted on all rows.

    Raises TiebreakError for fewer groups than PROMPTS_TO_FIT.
    """
    if (count := len(np.unique(groups_N))) < PROMPTS_TO_FIT:
        raise TiebreakError(
            f"weights are fitted on votes of at least {PROMPTS_TO_FIT} prompts, and these have {count}; give "
            "more votes, or weights of your own"
        )
    weights_M: Array = WEIGHTINGS[best(WEIGHTINGS, x_NMC, labels, groups_N)].fit(x_NMC, labels).weights_
    return weights_M


def shares(weights: Sequence[float] | None, models: int) -> Array:
    """Weights (models,) of sum one, equal by default. Raises TiebreakError for what cannot be weights."""
    weights_M = np.ones(models) if weights is None else np.asarray(weights, dtype=np.float64)
    usable = np.isfinite(weights_M).all() and (weights_M >= 0).all() and weights_M.sum() > 0
    if weights_M.shape != (models,) or not usable:
        raise TiebreakError(
            f"weights must be {models} numbers, one for each model, none negative and not all zero; "
            f"got {weights_M.tolist()}"
        )
    shares_M: Array = weights_M / weights_M.sum()
    return shares_M
