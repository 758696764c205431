"""Round robin: scores of several answers from a judge of pairs, each the mean of its win rates over the others.

Dimension letters: N answers of all lists, one list after another, P pairs.
"""

from collections.abc import Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray


def pairs(counts: Sequence[int]) -> NDArray[np.int64]:
    """All pairs (P, 2) of answers of one list, by their numbers among all; counts: how many answers each list has."""
    ends = np.cumsum(counts).tolist()
    found = [
        pair
        for end, count in zip(ends, counts, strict=True)
        for pair in combinations(range(end - count, end), 2)
    ]
    return np.array(found, dtype=np.int64).reshape(-1, 2)


def scores(rate_P: NDArray[np.floating], counts: Sequence[int]) -> NDArray[np.float64]:
    """The score (N,) of each answer: the mean of its win rates over all others of its list, 0.5 where there are none.

    rate_P: the win rate of the first answer of each of `pairs`, P(preferred) + P(tie) / 2.
    """
    won_N = np.zeros(sum(counts))
    np.add.at(won_N, pairs(counts), np.stack([rate_P, 1 - rate_P], axis=1))
    rivals_N = np.repeat(counts, counts) - 1
    score_N: NDArray[np.float64] = np.where(rivals_N > 0, won_N / np.maximum(rivals_N, 1), 0.5)
    return score_N
