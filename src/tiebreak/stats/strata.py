"""Weighted means of strata's means, with cluster-robust intervals: a benchmark's score from the scores of its subsets.

The strata and their weights are fixed; what varies is which rows each holds. Rows of one cluster, such as one prompt in several
subsets, are correlated. Variances are the jackknife's over clusters, intervals by Student's t.

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

    As a share of what is between the bounds its interval is Wilson's for the number of independent rows that has the same variance, corrected
    for the degrees of freedom, as in stats.clustered; for a score of 0 or 1 that is Kish's effective number of clusters. The variance of a
    stratum is at least that of a share by Jeffreys' prior: a small one without a mistake says little.
    """
    found = _jackknife(rows, weights)
    if found.groups < MIN_GROUPS:
        return Estimate(found.value)
    lowest, width = bounds[0], bounds[1] - bounds[0]
    share = min(max((found.value - lowest) / width, 0.0), 1.0)
    variance = found.variance / width**2 + _too_sure(rows, weights, bounds)
    spread = share * (1 - share)
    independent = spread / variance if spread > 0 and variance > 0 else found.effective
    low, high = wilson(share, independent * (_Z / float(t.ppf(0.975, found.degrees))) ** 2)
    return Estimate(found.value, lowest + width * low, lowest + width * high)


def weighted_change(
    rows: Rows, weights: Mapping[str, float], bounds: tuple[float, float] = (0.0, 1.0)
) -> Change:
    """The sum of weight times mean over strata, of paired differences of values within bounds, with a 95 % t interval and a two-sided t test.

    The variance of a stratum is at least that with half a row added to each of the four outcomes of a pair, both right, one or the other,
    neither (Agresti and Min, Statistics in Medicine 24, 2005): a small one without a difference says little.
    """
    found = _jackknife(rows, weights)
    if found.groups < MIN_GROUPS:
        return Change(found.value)
    error = math.sqrt(found.variance + _too_alike(rows, weights, bounds))
    half = float(t.ppf(0.975, found.degrees)) * error
    p = float(2 * t.sf(abs(found.value) / error, found.degrees))
    return Change(found.value, found.value - half, found.value + half, p)


@dataclass(frozen=True)
class _Mean:
    """A weighted mean with its variance. groups: clusters; effective: by their weights (Kish); degrees: of freedom of the variance."""

    value: float
    variance: float
    groups: int
    effective: float
    degrees: float


def _jackknife(rows: Rows, weights: Mapping[str, float]) -> _Mean:
    """The weighted mean, and its variance by what changes without each cluster.

    The degrees of freedom are Satterthwaite's (Biometrics 2, 1946) for rows of like variance: a few rows with a large weight have few.
    """
    value, weight_R, change_R = 0.0, np.zeros(len(rows.value_R)), np.zeros(len(rows.value_R))
    group_R = np.unique(rows.cluster_R, return_inverse=True)[1]
    for stratum, weight in weights.items():
        inside_R = rows.stratum_R == stratum
        count = int(inside_R.sum())
        mean = float(rows.value_R[inside_R].mean())
        own_R = np.bincount(group_R[inside_R], minlength=int(group_R.max()) + 1)[group_R[inside_R]]
        weight_R[inside_R] = weight / count
        change_R[inside_R] = weight * (rows.value_R[inside_R] - mean) / np.maximum(count - own_R, 1)
        value += weight * mean
    used_R = weight_R != 0
    group_R = np.unique(group_R[used_R], return_inverse=True)[1]
    change_G, weight_G = (np.bincount(group_R, values) for values in (change_R[used_R], weight_R[used_R]))
    groups = len(change_G)
    square_G = weight_G**2
    return _Mean(
        value,
        float(change_G @ change_G) * (groups - 1) / groups,
        groups,
        float(weight_G.sum() ** 2 / square_G.sum()),
        max(float(square_G.sum() ** 2 / (square_G @ square_G)) - 1, 1.0),
    )


def _too_sure(rows: Rows, weights: Mapping[str, float], bounds: tuple[float, float]) -> float:
    """What the strata's variances lack of those of shares by Jeffreys' prior."""
    lacking = 0.0
    for stratum, weight in weights.items():
        value_R = rows.value_R[rows.stratum_R == stratum]
        share_R = ((value_R - bounds[0]) / (bounds[1] - bounds[0])).clip(0, 1)
        count, share = len(share_R), (share_R.sum() + 0.5) / (len(share_R) + 1)
        own = share_R.var(ddof=1) / count if count > 1 else 0.0
        lacking += weight**2 * max(float(share * (1 - share) / (count + 1) - own), 0.0)
    return lacking


def _too_alike(rows: Rows, weights: Mapping[str, float], bounds: tuple[float, float]) -> float:
    """What the strata's variances of differences lack of those with half a row more of each outcome."""
    lacking, width = 0.0, bounds[1] - bounds[0]
    for stratum, weight in weights.items():
        change_R = rows.value_R[rows.stratum_R == stratum]
        count = len(change_R) + 2
        mean, square = change_R.sum() / count, (change_R @ change_R + width**2) / count
        own = change_R.var(ddof=1) / len(change_R) if len(change_R) > 1 else 0.0
        lacking += weight**2 * max(float((square - mean**2) / count - own), 0.0)
    return lacking
