"""Simultaneous confidence intervals of ranks, from estimates and their covariance.

Mogstad, Romano, Shaikh and Wilhelm (Review of Economic Studies 91, 2024): a model's rank is one more than the number of
those that are surely better, at least, and that of those not surely worse, at most, where what is sure comes from
intervals of all differences that hold together with 95 % confidence: the largest studentised difference, simulated from the
estimates' distribution under their covariance.

Dimension letters: M models, S draws.
"""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_DRAWS = 4000
_ALONE, _FIRST = 5000, 32
"""Pairs that are looked at in each draw, and models of which all pairs are."""


def rank_intervals(
    value_M: Floats, covariance_MM: Floats, degrees: float = np.inf, confidence: float = 0.95, seed: int = 0
) -> tuple[Ints, Ints]:
    """The best and the worst rank (M,) of each model, 1 the best; all intervals hold together with this confidence.

    value_M: more is better. degrees: of freedom of the covariance.
    """
    error_MM = difference_errors(covariance_MM)
    critical = critical_value(covariance_MM, degrees, confidence, seed)
    gap_MM = value_M[:, None] - value_M
    sure_MM = gap_MM > critical * error_MM
    np.fill_diagonal(sure_MM, val=False)
    return 1 + sure_MM.sum(axis=0), len(value_M) - sure_MM.sum(axis=1)


def difference_errors(covariance_MM: Floats) -> Floats:
    """The standard errors (M, M) of all differences."""
    variance_M = np.diag(covariance_MM)
    error_MM: Floats = np.sqrt((variance_M[:, None] + variance_M - 2 * covariance_MM).clip(0))
    return error_MM


def critical_value(
    covariance_MM: Floats, degrees: float = np.inf, confidence: float = 0.95, seed: int = 0
) -> float:
    """The quantile of the largest |difference| / standard error over all pairs of models; 0 where none has an error."""
    error_MM = difference_errors(covariance_MM)
    if not error_MM.any():
        return 0.0
    random = np.random.default_rng(seed)
    values_M, vectors_MM = np.linalg.eigh(covariance_MM)
    root_MM = vectors_MM * np.sqrt(values_M.clip(0))
    draw_SM = random.standard_normal((_DRAWS, len(root_MM))) @ root_MM.T
    largest_S = _largest_gaps(draw_SM, np.diag(covariance_MM), error_MM)
    if np.isfinite(degrees):
        largest_S /= np.sqrt(random.chisquare(degrees, _DRAWS) / degrees)
    return float(np.quantile(largest_S, confidence))


def _largest_gaps(draw_SM: Floats, variance_M: Floats, error_MM: Floats) -> Floats:
    """The largest |difference| / standard error of each draw, over all pairs with an error.

    Few pairs are looked at: with z a draw over its own standard error, and e^2 >= r (v_a + v_b) for the error of a pair, no
    pair's square exceeds (z_a^2 + z_b^2) / r, by Cauchy and Schwarz. The pairs of the smallest ratios are taken one by one.
    """
    a_P, b_P = np.triu_indices(len(variance_M), 1)
    has_error_P = error_MM[a_P, b_P] > 0
    a_P, b_P = a_P[has_error_P], b_P[has_error_P]
    ratio_P = error_MM[a_P, b_P] ** 2 / (variance_M[a_P] + variance_M[b_P])
    alone = min(_ALONE, len(a_P))
    order_P = np.argsort(ratio_P)
    a_A, b_A, least = a_P[order_P[:alone]], b_P[order_P[:alone]], ratio_P[order_P[alone - 1]]
    inverse_MM = np.divide(1, error_MM, out=np.zeros_like(error_MM), where=error_MM > 0)
    inverse_A = inverse_MM[a_A, b_A]
    square_SM = np.divide(draw_SM**2, variance_M, out=np.zeros_like(draw_SM), where=variance_M > 0)

    def among(draw_M: Floats, chosen: NDArray[np.int64]) -> float:
        gap_XX = np.abs(draw_M[chosen, None] - draw_M[chosen])
        return float((gap_XX * inverse_MM[np.ix_(chosen, chosen)]).max(initial=0.0))

    largest_S = np.zeros(len(draw_SM))
    draw_MS = np.ascontiguousarray(draw_SM.T)
    for a, b, inverse in zip(a_A, b_A, inverse_A, strict=True):
        np.maximum(largest_S, np.abs(draw_MS[a] - draw_MS[b]) * inverse, out=largest_S)
    if alone == len(a_P):
        return largest_S
    for s, (draw_M, square_M) in enumerate(zip(draw_SM, square_SM, strict=True)):
        first = max(largest_S[s], among(draw_M, np.argsort(square_M)[-_FIRST:]))
        possible_M = square_M >= least * first**2 * (1 - 1e-9) - square_M.max()
        largest_S[s] = max(first, among(draw_M, np.flatnonzero(possible_M)))
    return largest_S
