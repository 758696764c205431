"""Calibrators of probabilities (n, 3) as scikit-learn estimators.

All are softmax(W log p + b) with W and b restricted to a linear family, so the log loss is convex.
Temperature: W = I / T, b = 0 (Guo et al. 2017, arXiv:1706.04599). Vector: W diagonal. Matrix: W full, which is
Dirichlet calibration (Kull et al. 2019, arXiv:1910.12656).

A prior keeps fits of few votes near what came in: it adds to the total log loss, so many votes outweigh it.
docs/decisions.md has what it is worth. prior, everywhere: how many times it counts, 0 for not at all.

A symmetric calibrator commutes with the exchange of the answers: P(A) and P(B) exchange exactly, to the
last bit, when the inputs do. Fit on unseen rows only.

Dimension letters: N rows, C classes (a, b, tie), K parameters.
"""

import math
from collections.abc import Sequence
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tiebreak.stats.estimator import Estimator
from tiebreak.stats.metrics import CLIP, targets
from tiebreak.votes.schema import swap_answers

Array = NDArray[np.float64]

TEMPERATURES = (0.01, 100.0)
"""The range of a fitted temperature."""

SHAPE = 4.0
"""Of the gamma prior of 1 / T, whose mode is 1: log T has a standard deviation of about a half."""

PRIOR_VOTES = 100.0
"""Votes that the prior of vector and matrix scaling counts as, which the model with its temperature predicts exactly."""

RIDGE = 1e-6
"""Weight of the squared distance to the start beside the mean log loss: it picks one among equivalent parameters."""

FLOOR = 1e-4
"""The least probability in vector and matrix scaling; smaller ones are clipped, because the logarithm of a rare 0
would distort the linear map for all (on real out-of-fold predictions four such rows in 57,477 cost 0.0008 of log
loss)."""


class TemperatureScaling(Estimator):
    """Temperature scaling, softmax(log p / T), which is symmetric in the answers. Fitted: temperature_."""

    def __init__(self, prior: float = 1.0) -> None:
        self.prior = prior

    def fit(self, probabilities: ArrayLike, labels: ArrayLike) -> Self:
        """Fit on probabilities (n, 3) and labels, class numbers (n,) or soft (n, 3).

        The total log loss and prior SHAPE (1 / T - 1 + log T) is convex in 1 / T: its slope has one root.
        Raises ValueError where either is malformed.
        """
        from scipy.optimize import brentq  # which a judge that has fitted it does without

        x_NC, y_NC = _log(probabilities, CLIP), targets(labels)

        def slope(log_inverse: float) -> float:
            inverse = math.exp(log_inverse)
            residual_NC = softmax(x_NC * inverse) - y_NC
            return float((residual_NC * x_NC).sum()) + self.prior * SHAPE * (1 - 1 / inverse)

        low, high = -math.log(TEMPERATURES[1]), -math.log(TEMPERATURES[0])
        if slope(low) >= 0:
            root = low
        elif slope(high) <= 0:
            root = high
        else:
            root = brentq(slope, low, high, xtol=1e-12)
        self.temperature_ = math.exp(-root)
        self.classes_ = np.arange(3)
        return self

    def predict_proba(self, probabilities: ArrayLike) -> Array:
        return softmax(_log(probabilities, CLIP) / self.temperature_)

    def to_json(self) -> dict[str, Any]:
        return {"temperature": self.temperature_}

    @classmethod
    def from_json(cls, state: dict[str, Any]) -> Self:
        calibrator = cls()
        calibrator.temperature_ = float(state["temperature"])
        calibrator.classes_ = np.arange(3)
        return calibrator


CELLS = tuple((row, column) for column in range(4) for row in range(3))
"""The entries of (W | b)."""


class _AffineScaling(Estimator):
    """Affine scaling, softmax(W log max(p, FLOOR) + b), over a family of (W | b). Fitted: coef_ (3, 3), intercept_ (3,).

    symmetric: restricts the family to maps that commute with the exchange of the answers.
    """

    _cells: ClassVar[tuple[tuple[int, int], ...]]  # free entries of (W | b); column 3 is b

    def __init__(self, symmetric: bool = True, prior: float = 1.0) -> None:
        self.symmetric = symmetric
        self.prior = prior

    def fit(self, probabilities: ArrayLike, labels: ArrayLike) -> Self:
        """Fit on probabilities (n, 3) and labels, class numbers (n,) or soft (n, 3).

        Raises ValueError where either is malformed.
        """
        basis_KCD = parameter_basis(self._cells, self.symmetric)
        features_NCK = features(_log(probabilities, FLOOR), basis_KCD)
        ridge_K = RIDGE * basis_KCD.sum(axis=(1, 2))
        y_NC = with_prior(probabilities, labels, self.prior)
        theta_K = newton(features_NCK, y_NC, identity_parameters(basis_KCD), ridge_K)
        map_CD = np.einsum("k,kcd->cd", theta_K, basis_KCD)
        self.coef_, self.intercept_ = map_CD[:, :3], map_CD[:, 3]
        self.classes_ = np.arange(3)
        return self

    def predict_proba(self, probabilities: ArrayLike) -> Array:
        return softmax(apply_matrix(_log(probabilities, FLOOR), self.coef_) + self.intercept_)

    def to_json(self) -> dict[str, Any]:
        return {"coef": self.coef_.tolist(), "intercept": self.intercept_.tolist()}

    @classmethod
    def from_json(cls, state: dict[str, Any]) -> Self:
        calibrator = cls()
        calibrator.coef_ = np.array(state["coef"], dtype=np.float64)
        calibrator.intercept_ = np.array(state["intercept"], dtype=np.float64)
        calibrator.classes_ = np.arange(3)
        return calibrator


class VectorScaling(_AffineScaling):
    """Vector scaling, softmax(w log p + b), with a weight and a bias for each class (Guo et al. 2017)."""

    _cells = ((0, 0), (1, 1), (2, 2), (0, 3), (1, 3), (2, 3))


class MatrixScaling(_AffineScaling):
    """Matrix scaling, softmax(W log p + b), with a full W: Dirichlet calibration (Kull et al. 2019)."""

    _cells = CELLS


Calibrator = TemperatureScaling | VectorScaling | MatrixScaling
CALIBRATORS: dict[str, Calibrator] = {
    "temperature": TemperatureScaling(),
    "vector": VectorScaling(),
    "matrix": MatrixScaling(),
}
"""Unfitted symmetric calibrators by their names in the recipe."""


def from_json(state: dict[str, Any]) -> Calibrator:
    """A fitted calibrator from the output of `to_json`; a vector is a matrix whose other entries are zero."""
    return (TemperatureScaling if "temperature" in state else MatrixScaling).from_json(state)


def is_symmetric_map(coef: Any, intercept: Any) -> bool:
    """True for finite numbers W (3, 3) and b (3,) that commute with the exchange of the answers, to the last bit."""
    try:
        coef_CC, intercept_C = np.array(coef), np.array(intercept)
    except ValueError:  # rows of different lengths
        return False
    if (
        coef_CC.shape != (3, 3)
        or intercept_C.shape != (3,)
        or {coef_CC.dtype.kind, intercept_C.dtype.kind} - set("if")
    ):
        return False
    exchange = swap_answers(np.arange(3))
    finite = bool(np.isfinite(coef_CC).all() and np.isfinite(intercept_C).all())
    same = np.array_equal(coef_CC[exchange][:, exchange], coef_CC) and np.array_equal(
        intercept_C[exchange], intercept_C
    )
    return finite and same


def with_prior(probabilities: ArrayLike, labels: ArrayLike, prior: float = 1.0) -> Array:
    """Labels (n, 3) whose mean log loss is that of these and prior PRIOR_VOTES more votes.

    Those spread evenly over the rows and say what the model does with a temperature: they draw any fit that can
    scale it there (catalytic priors: Huang et al. 2020, doi:10.1073/pnas.1920913117).
    """
    y_NC = targets(labels)
    expected_NC = TemperatureScaling(prior).fit(probabilities, y_NC).predict_proba(probabilities)
    votes = prior * PRIOR_VOTES
    labels_NC: Array = (len(y_NC) * y_NC + votes * expected_NC) / (len(y_NC) + votes)
    return labels_NC


def parameter_basis(cells: Sequence[tuple[int, int]], symmetric: bool) -> Array:
    """(K, 3, 4): the entries of (W | b) that each parameter fills with ones.

    If symmetric, entries that the exchange of the answers maps on each other share a parameter.
    """
    exchange = [*swap_answers(np.arange(3)).tolist(), 3]
    orbits = [
        {(row, column), (exchange[row], exchange[column])} if symmetric else {(row, column)}
        for row, column in cells
    ]
    unique = [orbit for n, orbit in enumerate(orbits) if orbit not in orbits[:n]]
    basis_KCD = np.zeros((len(unique), 3, 4))
    for k, orbit in enumerate(unique):
        for row, column in orbit:
            basis_KCD[k, row, column] = 1
    return basis_KCD


def identity_parameters(basis_KCD: Array) -> Array:
    """The parameters (K,) of W = I, b = 0."""
    diagonal_KC = basis_KCD[:, range(3), range(3)]
    return np.asarray(diagonal_KC.any(axis=1), dtype=np.float64)


def features(log_NC: Array, basis_KCD: Array) -> Array:
    """The features (n, 3, K): the derivative of each class's logit in each parameter."""
    log1_ND = np.column_stack([log_NC, np.ones(len(log_NC))])
    features_NCK: Array = np.einsum("nd,kcd->nck", log1_ND, basis_KCD)
    return features_NCK


def apply_matrix(log_NC: Array, coef_CC: Array) -> Array:
    """W log p (n, 3), with a and b summed first: exact under their exchange, unlike a matrix product."""
    terms_NCC = coef_CC * log_NC[:, None, :]
    summed: Array = (terms_NCC[..., 0] + terms_NCC[..., 1]) + terms_NCC[..., 2]
    return summed


def newton(features_NCK: Array, y_NC: Array, start_K: Array, ridge_K: Array) -> Array:
    """Minimise mean CE(y, softmax(features theta)) + sum_k ridge_k (theta - start)_k^2 over theta.

    Newton's method with backtracking on a convex function. Theta is kept within 1000 of the start, which matters
    only where the classes are separable and the minimum lies at infinity.
    """

    def objective(theta_K: Array) -> float:
        z_NC = features_NCK @ theta_K
        z_NC = z_NC - z_NC.max(axis=1, keepdims=True)
        loss_N = np.log(np.exp(z_NC).sum(axis=1)) - (y_NC * z_NC).sum(axis=1)
        return float(loss_N.mean() + ridge_K @ (theta_K - start_K) ** 2)

    def derivatives(theta_K: Array) -> tuple[Array, Array]:
        p_NC = softmax(features_NCK @ theta_K)
        mean_NK = np.einsum("nc,nck->nk", p_NC, features_NCK)
        gradient_K = np.einsum("nc,nck->k", p_NC - y_NC, features_NCK) / len(y_NC)
        second_KK = np.tensordot(features_NCK * p_NC[..., None], features_NCK, axes=([0, 1], [0, 1]))
        hessian_KK = (second_KK - mean_NK.T @ mean_NK) / len(y_NC)
        return gradient_K + 2 * ridge_K * (theta_K - start_K), hessian_KK + 2 * np.diag(ridge_K)

    theta_K, loss = start_K, objective(start_K)
    for _ in range(200):
        gradient_K, hessian_KK = derivatives(theta_K)
        step_K = np.linalg.lstsq(hessian_KK, gradient_K, rcond=1e-14)[0]
        decrease = float(gradient_K @ step_K)
        if decrease < 1e-18 or np.abs(theta_K - start_K).max() > 1000:
            break
        scale = 1.0
        while (new := objective(theta_K - scale * step_K)) > loss - 0.1 * scale * decrease and scale > 1e-10:
            scale /= 2
        if new >= loss:  # the remaining decrease is below rounding
            break
        theta_K, loss = theta_K - scale * step_K, new
    return np.clip(theta_K, start_K - 1000, start_K + 1000)


def _log(probabilities: ArrayLike, floor: float) -> Array:
    p_NC = np.asarray(probabilities, dtype=np.float64)
    if p_NC.ndim != 2 or p_NC.shape[1] != 3:
        raise ValueError(f"probabilities must have shape (n, 3), got {p_NC.shape}")
    if not (np.isfinite(p_NC).all() and (p_NC >= 0).all()):
        raise ValueError("probabilities must be finite and not negative")
    return np.log(np.maximum(p_NC, floor))


def softmax(z_NC: Array) -> Array:
    """Softmax that sums a and b first, so that exchanging them changes no bit."""
    e_NC = np.exp(z_NC - z_NC.max(axis=1, keepdims=True))
    total_N = (e_NC[:, 0] + e_NC[:, 1]) + e_NC[:, 2]
    p_NC: Array = e_NC / total_N[:, None]
    return p_NC
