"""Label statistics of a data card, as shares with intervals.

Dimension letters: N votes, C classes (a, b, tie).
"""

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from tiebreak.stats.clustered import Share, share
from tiebreak.votes.schema import swap_answers

Floats = NDArray[np.floating]
Ints = NDArray[np.int64]

_LENGTH_EDGES = np.array([-1, -0.6, -0.3, -0.1, 0.1, 0.3, 0.6, 1])


@dataclass(frozen=True)
class LengthBin:
    """The votes whose answers differ in length by (a - b) / (a + b) between low and high."""

    low: float
    high: float
    a_wins: Share
    ties: float


@dataclass(frozen=True)
class Disagreement:
    """The disagreement of voters on pairs that were voted on more than once, in either order.

    votes: those on such pairs. contradicted: pairs with different labels. agreement: the probability that two votes
    on a pair agree, each pair counting once. noise: the lower bound of the log loss, `least_entropy` at the
    agreement; noise_low: at the upper end of its interval. None where no pair repeats, or without an interval.
    """

    repeated: int
    votes: int
    contradicted: int
    agreement: Share
    noise: float | None
    noise_low: float | None


def pair_weights(pair_N: NDArray[np.uint64]) -> NDArray[np.float64]:
    """The weight of each vote that makes the votes on one pair count as one."""
    _, pair_index_N, votes_P = np.unique(pair_N, return_inverse=True, return_counts=True)
    weights: NDArray[np.float64] = 1 / votes_P[pair_index_N]
    return weights


def a_wins(p_NC: Floats, weight_N: Floats, group_N: Ints) -> Share:
    """The share of wins of A among the votes that are no ties."""
    return share(weight_N * p_NC[:, 0], weight_N * (p_NC[:, 0] + p_NC[:, 1]), group_N)


def longer_wins(p_NC: Floats, length_N2: Ints, weight_N: Floats, group_N: Ints) -> Share:
    """The share of wins of the longer answer among the votes that are no ties."""
    gap_N = length_N2[:, 0] - length_N2[:, 1]
    p_NC = swap_answers(p_NC, gap_N < 0)
    return a_wins(p_NC, weight_N * (gap_N != 0), group_N)


def length_bins(p_NC: Floats, length_N2: Ints, weight_N: Floats, group_N: Ints) -> list[LengthBin]:
    """The share of wins of A, binned by the relative difference in length."""
    a_N, b_N = length_N2.T
    gap_N = (a_N - b_N) / np.maximum(a_N + b_N, 1)
    bin_N = np.clip(np.searchsorted(_LENGTH_EDGES, gap_N, side="right") - 1, 0, len(_LENGTH_EDGES) - 2)
    bins = []
    for k, (low, high) in enumerate(pairwise(_LENGTH_EDGES.tolist())):
        inside_N = weight_N * (bin_N == k)
        ties = float(inside_N @ p_NC[:, 2] / inside_N.sum()) if inside_N.any() else math.nan
        bins.append(LengthBin(low, high, a_wins(p_NC, inside_N, group_N), ties))
    return bins


def disagreement(
    pair_N: NDArray[np.uint64], swapped_N: NDArray[np.bool_], p_NC: Floats, group_N: Ints
) -> Disagreement:
    """The agreement of hard labels on repeated pairs, with the labels of swapped answers exchanged."""
    label_N = swap_answers(p_NC, swapped_N).argmax(axis=1)
    _, first_P, pair_index_N = np.unique(pair_N, return_index=True, return_inverse=True)
    counts_PC = np.bincount(pair_index_N * 3 + label_N, minlength=3 * len(first_P)).reshape(-1, 3)
    votes_P = counts_PC.sum(axis=1)
    several_P = votes_P > 1
    counts_PC, votes_P, group_P = counts_PC[several_P], votes_P[several_P], group_N[first_P[several_P]]
    agree_P = (counts_PC * (counts_PC - 1)).sum(axis=1) / (votes_P * (votes_P - 1))
    agreement = share(agree_P, np.ones(len(agree_P)), group_P)
    return Disagreement(
        repeated=len(votes_P),
        votes=int(votes_P.sum()),
        contradicted=int(((counts_PC > 0).sum(axis=1) > 1).sum()),
        agreement=agreement,
        noise=least_entropy(agreement.value) if len(votes_P) else None,
        noise_low=least_entropy(agreement.high) if agreement.has_interval else None,
    )


def least_entropy(agreement: float) -> float:
    """The least mean entropy, in nats, of three labels given the probability that two independent draws agree.

    No prediction has a lower expected log loss. The bound is convex and the agreement of two draws is
    estimated without bias, so few votes per pair cause no bias, unlike in the entropy of their shares, which
    is too low. (Harremoes and Topsoe, IEEE Transactions on Information Theory 47, 2001: the lines through
    certainty, two equal labels and three.)
    """
    two, three = math.log(2), math.log(3)
    return max(0.0, 2 * two * (1 - agreement), two + 6 * (three - two) * (0.5 - agreement))
