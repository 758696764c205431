"""Blends of several models' probabilities as scikit-learn estimators: (n, models, 3) in, (n, 3) out.

Every blend is symmetric in the answers: P(A) and P(B) exchange to the last bit when the inputs do. Log and matrix
blends of few votes stay near the first model, which is the judge, by the prior of `calibration`.

Dimension letters: N rows, M models, C classes (a, b, tie).
"""

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tiebreak.errors import TiebreakError
from tiebreak.stats.calibration import (
    CELLS,
    FLOOR,
    RIDGE,
    apply_matrix,
    features,
    identity_parameters,
    is_symmetric_map,
    newton,
    parameter_basis,
    softmax,
    with_prior,
)
from tiebreak.stats.estimator import Estimator
from tiebreak.stats.metrics import CLIP, targets

Array = NDArray[np.float64]


class EqualBlend(Estimator):
    """The unweighted mean. Fitted: weights_ (models,), all equal."""

    def fit(self, x_NMC: Array, labels: ArrayLike) -> Self:
        self.weights_ = np.full(x_NMC.shape[1], 1 / x_NMC.shape[1])
        return self

    def predict_proba(self, x_NMC: Array) -> Array:
        return weighted(self.weights_, x_NMC)


class LinearBlend(EqualBlend):
    """A weighted mean, weights not negative and of sum one. Fitted: weights_ (models,)."""

    def fit(self, x_NMC: Array, labels: ArrayLike) -> Self:
        """Minimise the log loss, convex in the mixture weights, by expectation maximisation."""
        super().fit(x_NMC, labels)
        y_NC = targets(labels)
        row_R, class_R = np.nonzero(y_NC)  # classes without a label add nothing
        y_R, x_RM = y_NC[row_R, class_R], np.maximum(x_NMC[row_R, :, class_R], CLIP)
        for _ in range(2000):
            updated = self.weights_ * ((y_R / (x_RM @ self.weights_)) @ x_RM) / len(y_NC)
            done = np.abs(updated - self.weights_).max() < 1e-9
            self.weights_ = updated
            if done:
                break
        return self

    def to_json(self) -> dict[str, Any]:
        return {"way": "linear", "weights": self.weights_.tolist()}


class LogBlend(Estimator):
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


class MatrixBlend(Estimator):
    """softmax(sum_m W_m log max(p_m, FLOOR) + b), each W_m commuting with the exchange of the answers.

    Stacking (Wolpert 1992) of Dirichlet calibrations. Fitted: coef_ (models, 3, 3), intercept_ (3,).
    """

    def __init__(self, prior: float = 1.0) -> None:
        self.prior = prior

    def fit(self, x_NMC: Array, labels: ArrayLike) -> Self:
        basis_KCD = parameter_basis(CELLS, symmetric=True)
        log_NMC, models = np.log(np.maximum(x_NMC, FLOOR)), x_NMC.shape[1]
        features_NCK = np.concatenate([features(log_NMC[:, m], basis_KCD) for m in range(models)], axis=2)
        start_K = np.tile(identity_parameters(basis_KCD) / models, models)
        y_NC = with_prior(x_NMC[:, 0], labels, self.prior)
        theta_K = newton(features_NCK, y_NC, start_K, ridge_K=np.full(len(start_K), RIDGE))
        map_MCD = np.einsum("mk,kcd->mcd", theta_K.reshape(models, -1), basis_KCD)
        self.coef_, self.intercept_ = map_MCD[..., :3], map_MCD[..., 3].sum(axis=0)
        return self

    def predict_proba(self, x_NMC: Array) -> Array:
        log_NMC = np.log(np.maximum(x_NMC, FLOOR))
        z_NC = self.intercept_
        for m, coef_CC in enumerate(self.coef_):
            z_NC = z_NC + apply_matrix(log_NMC[:, m], coef_CC)
        return softmax(z_NC)

    def to_json(self) -> dict[str, Any]:
        return {"way": "matrix", "coef": self.coef_.tolist(), "intercept": self.intercept_.tolist()}


Blend = LinearBlend | LogBlend | MatrixBlend


def from_json(state: Mapping[str, Any]) -> Blend:
    """A fitted blend from the output of `to_json`. Raises ValueError, KeyError or TypeError for anything else."""
    if state["way"] == "matrix":
        matrix = MatrixBlend()
        matrix.coef_, matrix.intercept_ = _numbers(state["coef"], 3), _numbers(state["intercept"], 1)
        if matrix.coef_.shape[1:] != (3, 3) or matrix.intercept_.shape != (3,):
            raise ValueError("a matrix blend has 3 x 3 numbers for each model and 3 beside them")
        if not all(is_symmetric_map(coef_CC, matrix.intercept_) for coef_CC in matrix.coef_):
            raise ValueError("a matrix blend is symmetric in the answers")
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
    """The weighted sum over models, sum_m w_m x_m, with the same order of operations for each class."""
    total_NC: Array = weights_M[0] * x_NMC[:, 0]
    for m in range(1, len(weights_M)):
        total_NC = total_NC + weights_M[m] * x_NMC[:, m]
    return total_NC


WEIGHTINGS = {"equal": EqualBlend(), "fitted": LinearBlend()}
"""Candidates for weighting models, from which cross-validation chooses."""

PROMPTS_TO_FIT = 10
"""The fewest distinct prompts for choosing weights by nested cross-validation."""


def best_weights(x_NMC: Array, labels: ArrayLike, groups_N: NDArray[np.integer]) -> Array:
    """Weights (models,) by the candidate of WEIGHTINGS with the least cross-validated loss, fitted on all rows.

    Raises TiebreakError for fewer groups than PROMPTS_TO_FIT.
    """
    from tiebreak.stats.nested_cv import best_candidate  # by scikit-learn, which a fitted blend does without

    if (count := len(np.unique(groups_N))) < PROMPTS_TO_FIT:
        raise TiebreakError(
            f"weights are fitted on votes of at least {PROMPTS_TO_FIT} prompts, and these have {count}; give "
            "more votes, or weights of your own"
        )
    weights_M: Array = (
        WEIGHTINGS[best_candidate(WEIGHTINGS, x_NMC, labels, groups_N)].fit(x_NMC, labels).weights_
    )
    return weights_M


def shares(weights: Sequence[float] | None, models: int) -> Array:
    """Weights (models,) normalised to sum to one, equal by default. Raises TiebreakError for invalid weights."""
    weights_M = np.ones(models) if weights is None else np.asarray(weights, dtype=np.float64)
    usable = np.isfinite(weights_M).all() and (weights_M >= 0).all() and (weights_M > 0).any()
    if weights_M.shape != (models,) or not usable:
        raise TiebreakError(
            f"weights must be {models} numbers, one for each model, none negative and not all zero; "
            f"got {weights_M.tolist()}"
        )
    weights_M = weights_M / weights_M.max()  # the sum of the largest numbers is none
    shares_M: Array = weights_M / weights_M.sum()
    return shares_M
