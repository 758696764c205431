"""Cluster-robust confidence intervals of shares, where votes of one group, such as one prompt, are correlated.

Dimension letters: N votes, G groups.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

Floats = NDArray[np.floating]
Numbers = NDArray[np.integer]

FEWEST_PROMPTS = 20
"""The fewest effective prompts for an interval; with fewer its coverage is below nominal."""

_Z = 1.959964


@dataclass(frozen=True)
class Share:
    """A share with its 95 % interval. votes: the total weight of votes; prompts: the effective number of groups.

    NaN where there are no votes; low and high are NaN where prompts are fewer than FEWEST_PROMPTS.
    """

    value: float
    low: float
    high: float
    votes: int
    prompts: float

    @property
    def has_interval(self) -> bool:
        return not math.isnan(self.low)


def share(part_N: Floats, whole_N: Floats, group_N: Numbers) -> Share:
    """The share sum(part) / sum(whole), with 0 <= part <= whole; soft labels and weights make them fractional.

    The interval is Wilson's (JASA 22, 1927) for the effective number of independent votes, times
    (z / t)^2 for the degrees of freedom (Korn and Graubard, Survey Methodology 24, 1998; Franco et al., Journal
    of Survey Statistics and Methodology 7, 2019).
    """
    counted_N = whole_N > 0
    part_N, whole_N = (np.asarray(x_N[counted_N], np.float64) for x_N in (part_N, whole_N))
    if not len(whole_N):
        return Share(math.nan, math.nan, math.nan, 0, 0.0)
    value, votes = float(part_N.sum() / whole_N.sum()), round(float(whole_N.sum()))
    prompts = effective_groups(whole_N, group_N[counted_N])
    if prompts < FEWEST_PROMPTS:
        return Share(value, math.nan, math.nan, votes, prompts)
    independent_votes = _effective_votes(
        part_N, whole_N, np.unique(group_N[counted_N], return_inverse=True)[1]
    )
    low, high = wilson(value, independent_votes * (_Z / float(t_quantile(prompts))) ** 2)
    return Share(value, low, high, votes, prompts)


def effective_groups(weight_N: Floats, group_N: Numbers) -> float:
    """The effective number of groups: (sum w)^2 / sum w^2 over the groups' weights (Kish 1965)."""
    sums_G = np.bincount(np.unique(group_N, return_inverse=True)[1], weight_N)
    # rounded, so that 20 groups of equal weight are 20
    return round(float(sums_G.sum() ** 2 / (sums_G @ sums_G)), 6) if len(sums_G) else 0.0


def t_quantile(prompts: float | Floats) -> NDArray[np.float64]:
    """The quantile of Student's t for a two-sided 95 % interval from that many groups."""
    return np.asarray(stdtrit(np.maximum(np.asarray(prompts) - 1, 1), 0.975))


def _effective_votes(part_N: NDArray[np.float64], whole_N: NDArray[np.float64], group_N: Numbers) -> float:
    """The effective number of independent votes: at least one for each group, at most all of them.

    The smaller of two estimates. By linearisation, the binomial variance over that of the ratio of sums. By
    Kish's design effect, from sizes and the correlation within groups, which is better where few of the large groups
    have a success.
    """
    value, total = part_N.sum() / whole_N.sum(), whole_N.sum()
    all_votes, groups = total**2 / (whole_N @ whole_N), effective_groups(whole_N, group_N)
    residual_G = np.bincount(group_N, part_N - value * whole_N)
    variance = (residual_G @ residual_G) / total**2 * len(residual_G) / (len(residual_G) - 1)
    linearised = value * (1 - value) / variance if variance > 0 else math.inf
    within = _correlation(part_N / whole_N, whole_N, group_N)
    by_kish = 1 / (within / groups + (1 - within) / all_votes)
    return float(np.clip(min(linearised, by_kish), groups, max(groups, all_votes)))


def _correlation(value_N: NDArray[np.float64], weight_N: NDArray[np.float64], group_N: Numbers) -> float:
    """The correlation within groups of several votes; 1 where nothing tells.

    Each group counts by its mean weight squared: as often as any other where votes weigh alike, and hardly where its
    votes are repetitions that count as one.
    """
    size_G = np.bincount(group_N)
    several_G = size_G > 1
    in_several_N = several_G[group_N]
    if not in_several_N.any():
        return 0.0
    size_G = np.maximum(size_G, 2)
    mean_G = np.bincount(group_N, value_N) / np.bincount(group_N)
    square_G = np.bincount(group_N, value_N**2) / np.bincount(group_N)
    counts_G = (np.bincount(group_N, weight_N) / np.bincount(group_N))[several_G] ** 2
    within_G = ((square_G - mean_G**2) * size_G / (size_G - 1))[several_G]
    within = np.average(within_G, weights=counts_G)
    overall = (
        np.average(square_G[several_G], weights=counts_G)
        - np.average(mean_G[several_G], weights=counts_G) ** 2
    )
    return float(np.clip(1 - within / overall, 0, 1)) if overall > 1e-12 else 1.0


def wilson(share: float, votes: float, z: float = _Z) -> tuple[float, float]:
    """Wilson's interval (JASA 22, 1927), of 95 % by default, of a share of this many independent votes."""
    scale = 1 + z**2 / votes
    middle = (share + z**2 / (2 * votes)) / scale
    half = z * math.sqrt(share * (1 - share) / votes + z**2 / (4 * votes**2)) / scale
    return max(middle - half, 0.0), min(middle + half, 1.0)
