"""Shares with intervals where the votes of one group, such as those on nearly the same prompt, depend on each other.

Dimension letters: N votes, G groups.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t

Floats = NDArray[np.floating]
Numbers = NDArray[np.integer]

FEWEST_PROMPTS = 20
"""Effective prompts below which no interval is shown: there it covers what it should less often than it says."""

_Z = 1.959964


@dataclass(frozen=True)
class Share:
    """A share with its 95 % interval. votes: what it is a share of; prompts: the effective number of groups.

    NaN where there is nothing; low and high are NaN where prompts are fewer than FEWEST_PROMPTS.
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

    The interval is Wilson's (JASA 22, 1927) for as many independent votes as these are worth, times
    (z / t)^2 for the degrees of freedom (Korn and Graubard, Survey Methodology 24, 1998; Franco et al., Journal
    of Survey Statistics and Methodology 7, 2019).
    """
    counted_N = whole_N > 0
    part_N, whole_N = (np.asarray(x_N[counted_N], np.float64) for x_N in (part_N, whole_N))
    if not len(whole_N):
        return Share(math.nan, math.nan, math.nan, 0, 0.0)
    value, votes = float(part_N.sum() / whole_N.sum()), round(float(whole_N.sum()))
    prompts = effective(whole_N, group_N[counted_N])
    if prompts < FEWEST_PROMPTS:
        return Share(value, math.nan, math.nan, votes, prompts)
    worth = _worth(part_N, whole_N, np.unique(group_N[counted_N], return_inverse=True)[1])
    low, high = _wilson(value, worth * (_Z / float(quantile(prompts))) ** 2)
    return Share(value, low, high, votes, prompts)


def effective(weight_N: Floats, group_N: Numbers) -> float:
    """The number of groups of equal weight that these are worth: (sum w)^2 / sum w^2 over groups (Kish 1965)."""
    sums_G = np.bincount(np.unique(group_N, return_inverse=True)[1], weight_N)
    # rounded, so that 20 groups of equal weight are 20
    return round(float(sums_G.sum() ** 2 / (sums_G @ sums_G)), 6) if len(sums_G) else 0.0


def quantile(prompts: float | Floats) -> NDArray[np.float64]:
    """Student's t for a two-sided 95 % interval from that many groups."""
    return np.asarray(t.ppf(0.975, np.maximum(np.asarray(prompts) - 1, 1)))


def _worth(part_N: NDArray[np.float64], whole_N: NDArray[np.float64], group_N: Numbers) -> float:
    """Independent votes that these are worth: at least one for each group, at most all of them.

    The smaller of two estimates. By linearisation, the binomial variance over that of the ratio of sums. By
    Kish's design effect, from sizes and the correlation within groups: it holds where few of the large groups
    have a success, which the first sees too late.
    """
    value, total = part_N.sum() / whole_N.sum(), whole_N.sum()
    all_votes, groups = total**2 / (whole_N @ whole_N), effective(whole_N, group_N)
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
    inside_N = several_G[group_N]
    if not inside_N.any():
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


def _wilson(share: float, votes: float) -> tuple[float, float]:
    scale = 1 + _Z**2 / votes
    middle = (share + _Z**2 / (2 * votes)) / scale
    half = _Z * math.sqrt(share * (1 - share) / votes + _Z**2 / (4 * votes**2)) / scale
    return max(middle - half, 0.0), min(middle + half, 1.0)
