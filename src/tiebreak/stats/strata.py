"""Weighted means of strata's means, with cluster-robust intervals: a benchmark's score from the scores of its subsets.

The strata and their weights are fixed; what varies is which rows each holds. Rows of one cluster, such as one prompt in several
subsets, are correlated. Variances are by linearisation (Cochran, Sampling Techniques, 1977, chapter 5A; clusters summed over strata,
with G / (G - 1)), intervals by Student's t.

Dimension letters: R rows, S strata, G clusters.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t

from tiebreak.stats.clustered import wilson
from tiebreak.stats.metrics import MIN_GROUPS, Array, Estimate

_Z = 1.959964


@dataclass(frozen=True)
class Rows:
    """Values (R,), each with the name of its stratum and the number of its cluster."""

    value_R: Array
    stratum_R: NDArray[Any]
    cluster_R: NDArray[np.integer]

    def less(self, other: "Rows") -> "Rows":
        """The differences from other values of the same rows."""
        return Rows(self.value_R - other.value_R, self.stratum_R, self.cluster_R)


@dataclass(frozen=True)
class Change:
    """A paired difference with its interval and the p-value of no difference; None where there are fewer than MIN_GROUPS clusters."""

    value: float
    low: float | None = None
    high: float | None = None
    p: float | None = None


def weighted_share(
    rows: Rows, weights: Mapping[str, float], bounds: tuple[float, float] = (0.0, 1.0)
) -> Estimate:
    """The sum of weight times mean over strata, which is within bounds, with a 95 % interval.

    As a share of what is between the bounds its interval is Wilson's for the number of independent rows that has the same variance, at least as many as Kish's effective clusters
    and corrected for the degrees of freedom, as in stats.clustered: so a score of 0 or 1 has one too.
    """
    value, influence_G, weight_G = _linearised(rows, weights)
    groups = len(influence_G)
    if groups < MIN_GROUPS:
        return Estimate(value)
    lowest, width = bounds[0], bounds[1] - bounds[0]
    share = min(max((value - lowest) / width, 0.0), 1.0)
    variance = float(influence_G @ influence_G) / width**2 * groups / (groups - 1)
    effective = float(weight_G.sum() ** 2 / (weight_G @ weight_G))
    independent = max(share * (1 - share) / variance if variance > 0 else 0.0, effective)
    low, high = wilson(share, independent * (_Z / float(t.ppf(0.975, groups - 1))) ** 2)
    return Estimate(value, lowest + width * low, lowest + width * high)


def weighted_change(rows: Rows, weights: Mapping[str, float]) -> Change:
    """The sum of weight times mean over strata, of paired differences, with a 95 % t interval and a two-sided t test."""
    value, influence_G, _ = _linearised(rows, weights)
    groups = len(influence_G)
    if groups < MIN_GROUPS:
        return Change(value)
    error = math.sqrt(float(influence_G @ influence_G) * groups / (groups - 1))
    half = float(t.ppf(0.975, groups - 1)) * error
    p = float(2 * t.sf(abs(value) / error, groups - 1)) if error > 0 else float(value == 0)
    return Change(value, value - half, value + half, p)


def _linearised(rows: Rows, weights: Mapping[str, float]) -> tuple[float, Array, Array]:
    """The weighted mean, and for each cluster the sum of its rows' influences on it and of their weights."""
    value, weight_R, mean_R = 0.0, np.zeros(len(rows.value_R)), np.zeros(len(rows.value_R))
    for stratum, weight in weights.items():
        inside_R = rows.stratum_R == stratum
        mean = float(rows.value_R[inside_R].mean())
        weight_R[inside_R], mean_R[inside_R] = weight / inside_R.sum(), mean
        value += weight * mean
    used_R = weight_R != 0
    value_R, weight_R, mean_R = rows.value_R[used_R], weight_R[used_R], mean_R[used_R]
    group_R = np.unique(rows.cluster_R[used_R], return_inverse=True)[1]
    influence_G, weight_G = (
        np.bincount(group_R, values).astype(np.float64)
        for values in (weight_R * (value_R - mean_R), weight_R)
    )
    return value, influence_G, weight_G
