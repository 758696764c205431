"""Prediction-powered inference: means of votes with a judge's predictions as a control variate.

PPI++ (Angelopoulos, Duchi and Zrnic 2023, arXiv:2311.01453): for votes y on some of the judged rows and predictions f of
all, the mean of the votes is estimated by mean(y) - w (mean of f where there are votes - mean of all f). Whatever f is, this
is right, if the rows with votes are a random sample of the rows; the weight w that makes the variance smallest is
estimated, so that a judge who knows nothing costs nothing. Rows of one group, such as those on one prompt, are
correlated: variances are the jackknife's over groups, each residual of a group by a mean and a weight that were fitted without it
(MacKinnon and White, Journal of Econometrics 29, 1985; Bell and McCaffrey, Survey Methodology 28, 2002, for groups of unequal size).

Dimension letters: N judged rows, K figures of a row, G groups.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tiebreak.stats.clustered import FEWEST_PROMPTS, t_quantile, wilson

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

FEWEST = 4.0
"""The least variance of the sum of a vote from each prompt, about the fewest votes for either side, with which a weight can be tuned."""


@dataclass(frozen=True)
class Means:
    """Means (K,) of figures between 0 and 1 with their standard errors.

    spread_K: the variance of a share of the votes' mean. weight: of the judge, 0 where it does not help. alone_K: the standard errors
    of the votes without the judge. votes: rows with votes. judged: all rows. prompts: the effective number of groups with votes.
    """

    value_K: Floats
    spread_K: Floats
    error_K: Floats
    alone_K: Floats
    weight: float
    votes: int
    judged: int
    prompts: float

    @property
    def effective_votes(self) -> float:
        """The votes that would be as exact without the judge: votes * variance without / variance with it."""
        without, with_it = (float((error_K**2).sum()) for error_K in (self.alone_K, self.error_K))
        return self.votes * without / with_it if with_it > 0 else float(self.votes)

    def interval(self, k: int = 0) -> tuple[float, float]:
        """A 95 % interval of a figure: Wilson's (JASA 22, 1927) for the number of independent votes that would have this
        standard error, with Student's t for the effective groups. NaN for fewer than FEWEST_PROMPTS.
        """
        if self.prompts < FEWEST_PROMPTS:
            return math.nan, math.nan
        value, error, spread = (float(x_K[k]) for x_K in (self.value_K, self.error_K, self.spread_K))
        votes = spread / error**2 if error > 0 and spread > 0 else self.prompts
        return wilson(value, votes * (float(t_quantile(math.inf) / t_quantile(self.prompts))) ** 2)

    def votes_needed(self, half_width: float, k: int = 0) -> float:
        """The votes for a 95 % interval of this half width with as many judged rows; infinite if these are too few.

        Of the variance a share r of 1 - correlation^2 goes down with the votes, the rest with the judged rows.
        """
        alone, wanted = self.alone_K[k] ** 2, (half_width / float(t_quantile(math.inf))) ** 2
        if not alone > 0:
            return float(self.votes)
        unjudged = 1 - self.votes / self.judged
        explained = (1 - min(self.error_K[k] ** 2 / alone, 1.0)) / unjudged if unjudged > 0 else 0.0
        per_vote = alone * self.votes
        left = wanted - explained * per_vote / self.judged
        return per_vote * (1 - explained) / left if left > 0 else math.inf


def means(y_NK: Floats, f_NK: Floats, group_N: Ints, weight: float | None = None) -> Means:
    """The means of votes on rows of which all are judged: without the judge where that is no less exact, or votes are too few to tell.

    y_NK: what the votes say of a row, their mean where there are several; NaN without votes. f_NK: the same by the judge.
    Zeros stand for no judge. weight: of the judge, tuned by default. Raises ValueError without votes.
    """
    voted_N = ~np.isnan(y_NK[:, 0])
    votes = int(voted_N.sum())
    if not votes:
        raise ValueError("no votes")
    number_N = np.unique(group_N, return_inverse=True)[1]
    y_mean_K, f_mean_K = y_NK[voted_N].mean(axis=0), f_NK[voted_N].mean(axis=0)
    all_mean_K = f_NK.mean(axis=0)
    size_G = np.bincount(number_N[voted_N], minlength=int(number_N.max()) + 1)
    others_G1 = (votes - size_G).clip(1)[:, None]  # a group's weight in what changes without it
    a_GK = sums(np.where(voted_N[:, None], y_NK - y_mean_K, 0.0), number_N) / others_G1
    b_GK = sums(np.where(voted_N[:, None], f_NK - f_mean_K, 0.0), number_N) / others_G1
    groups = int(np.count_nonzero(size_G))
    b_GK -= sums(f_NK - all_mean_K, number_N) / len(f_NK) * groups / max(groups - 1, 1)
    tuned = power_tuned(a_GK, b_GK) if weight is None else weight
    residual_GK = residuals(a_GK, b_GK) if weight is None else a_GK - weight * b_GK
    prompts = round(votes**2 / float(size_G @ size_G), 6)  # as clustered.effective_groups has it
    spread_K = y_mean_K * (1 - y_mean_K)
    error_K, alone_K = standard_errors(residual_GK, groups), standard_errors(a_GK, groups)
    too_few = prompts * spread_K.sum() / max(len(spread_K) - 1, 1) < FEWEST
    if weight is None and (too_few or (error_K**2).sum() >= (alone_K**2).sum()):
        tuned, error_K = 0.0, alone_K
    return Means(
        (y_mean_K - tuned * (f_mean_K - all_mean_K)).clip(0, 1),
        spread_K,
        error_K,
        alone_K,
        tuned,
        votes,
        len(f_NK),
        prompts,
    )


def power_tuned(a_GK: Floats, b_GK: Floats) -> float:
    """The weight w of 0 or more for which the variance of sum(a - w b) over groups is smallest, that of all K together.

    a_GK: what the votes of a group add to the error of the estimate; b_GK: what the judge adds.
    """
    square = float((b_GK**2).sum())
    return max(float((a_GK * b_GK).sum()) / square, 0.0) if square > 0 else 0.0


def residuals(a_GK: Floats, b_GK: Floats) -> Floats:
    """What each group adds to the error (G, K): a - w b for the weight w tuned on the other groups."""
    product_G, square_G = (a_GK * b_GK).sum(axis=1), (b_GK**2).sum(axis=1)
    left_G = square_G.sum() - square_G
    weight_G = np.divide(product_G.sum() - product_G, left_G, out=np.zeros_like(left_G), where=left_G > 0)
    found_GK: Floats = a_GK - weight_G.clip(0)[:, None] * b_GK
    return found_GK


def sums(x_NK: Floats, number_N: Ints, groups: int = 0) -> Floats:
    """The sums (G, K) of the groups, which are numbered from 0. groups: how many there are at least."""
    return np.stack([np.bincount(number_N, x_N, groups) for x_N in x_NK.T], axis=1)


def standard_errors(residual_GK: Floats, groups: int) -> Floats:
    """The jackknife's: roots of the sums of squares over groups of what changes without one, times (G - 1) / G for the G groups with votes."""
    error_K: Floats = np.sqrt((residual_GK**2).sum(axis=0) * max(groups - 1, 1) / groups)
    return error_K
