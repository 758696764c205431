"""Multinomial logistic regression that is symmetric in the answers.

The logits of a, b and tie are (u, -u, v), u = odd . w and v = even . c + d, where odd features change their sign
when the answers are exchanged and even ones do not. A multinomial regression on every vote in both orders has the
same minimum, with twice the rows and three times the coefficients.

Dimension letters: N votes, C classes (a, b, tie), F odd features, G even features.
"""

from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.sparse import csr_array
from sklearn.base import BaseEstimator

from tiebreak.stats.calibration import softmax

Array = NDArray[np.float64]


class SymmetricLogistic(BaseEstimator):  # type: ignore[misc]
    """The minimum of sum_n weight_n CE(y_n, p_n) + penalty / 2 |(w, c)|^2. Fitted: odd_ (F,), even_ (G,), intercept_."""

    def __init__(self, penalty: float = 1.0, max_iter: int = 200) -> None:
        self.penalty = penalty
        self.max_iter = max_iter

    def fit(self, odd_NF: csr_array, even_NG: csr_array, y_NC: Array, weights_N: Array) -> Self:
        """Fit on soft labels (n, 3) by L-BFGS; the loss is convex."""
        odd_used, even_used = np.unique(odd_NF.indices), np.unique(even_NG.indices)  # the others stay at 0
        self.odd_, self.even_ = np.zeros(odd_NF.shape[1]), np.zeros(even_NG.shape[1])
        odd_NF, even_NG = odd_NF[:, odd_used], even_NG[:, even_used]
        odd_FN, even_GN = odd_NF.T, even_NG.T
        split, total = len(odd_used), weights_N.sum()

        def objective(theta_K: Array) -> tuple[float, Array]:
            penalised_K = np.append(theta_K[:-1], 0.0)  # the intercept is not penalised
            z_NC = _logits(odd_NF, even_NG, theta_K[:split], theta_K[split:-1], theta_K[-1])
            top_N1 = z_NC.max(axis=1, keepdims=True)
            log_sum_N = np.log(np.exp(z_NC - top_N1).sum(axis=1)) + top_N1[:, 0]
            loss = (
                weights_N @ (log_sum_N - (y_NC * z_NC).sum(axis=1))
                + self.penalty / 2 * penalised_K @ penalised_K
            )
            residual_NC = weights_N[:, None] * (softmax(z_NC) - y_NC)
            gradient_K = np.concatenate(
                [
                    odd_FN @ (residual_NC[:, 0] - residual_NC[:, 1]),
                    even_GN @ residual_NC[:, 2],
                    residual_NC[:, 2].sum(keepdims=True),
                ]
            )
            return loss / total, (gradient_K + self.penalty * penalised_K) / total

        start_K = np.zeros(split + len(even_used) + 1)
        options = {"maxiter": self.max_iter, "gtol": 1e-5}
        theta_K = minimize(objective, start_K, jac=True, method="L-BFGS-B", options=options).x
        self.odd_[odd_used], self.even_[even_used] = theta_K[:split], theta_K[split:-1]
        self.intercept_ = float(theta_K[-1])
        return self

    def predict_proba(self, odd_NF: csr_array, even_NG: csr_array) -> Array:
        """Probabilities (n, 3); those of a vote do not depend on the other rows."""
        return softmax(_logits(odd_NF, even_NG, self.odd_, self.even_, self.intercept_))


def _logits(odd_NF: csr_array, even_NG: csr_array, odd_F: Array, even_G: Array, intercept: float) -> Array:
    u_N = odd_NF @ odd_F
    return np.stack([u_N, -u_N, even_NG @ even_G + intercept], axis=1)
