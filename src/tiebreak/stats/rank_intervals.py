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
_CHUNK = 1 << 22


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
    random = np.random.default_rng(seed)
    values_M, vectors_MM = np.linalg.eigh(covariance_MM)
    root_MM = vectors_MM * np.sqrt(values_M.clip(0))
    a_P, b_P = np.triu_indices(len(covariance_MM), 1)
    error_P = difference_errors(covariance_MM)[a_P, b_P]
    differs_P = error_P > 0
    a_P, b_P, error_P = a_P[differs_P], b_P[differs_P], error_P[differs_P]
    if not len(error_P):
        return 0.0
    largest = []
    step = max(_CHUNK // len(error_P), 1)
    for start in range(0, _DRAWS, step):
        draw_SM = random.standard_normal((min(step, _DRAWS - start), len(root_MM))) @ root_MM.T
        largest.append((np.abs(draw_SM[:, a_P] - draw_SM[:, b_P]) / error_P).max(axis=1))
    largest_S = np.concatenate(largest)
    if np.isfinite(degrees):
        largest_S /= np.sqrt(random.chisquare(degrees, len(largest_S)) / degrees)
    return float(np.quantile(largest_S, confidence))
