"""Choice of the pairs to compare where a few rivals are ranked on a budget: first a cycle, then by information.

The cycle, in random order, compares every rival twice and links all of them. Each later round fits Davidson strengths to
what is known and takes the pairs whose comparison says most: the information of one more vote on their gap times the gap's
variance, as a D-optimal design chooses (Fedorov, Theory of Optimal Experiments, 1972), weighted by the roots of both rivals'
shares exp(s), so that the best are told apart first (benchmarks/rank.py). A round has each rival at most once, so that few
rounds suffice, and the pairs of many prompts are judged in one batch.

Dimension letters: P pairs, C classes (a, b, tie).
"""

from itertools import combinations

import numpy as np
from scipy.special import softmax

from tiebreak.stats.davidson import Floats, Ints, Strengths, fit

ALL_UP_TO = 8
"""Rivals of which every pair is compared unless a budget says else."""
PAIRS_EACH = 3
"""Pairs a rival in the budget of more rivals."""

Pair = tuple[int, int]


def budget_of(rivals: int, pairs: int | None = None) -> int:
    """The pairs to compare: as many as given, at least those that link all rivals, at most all there are."""
    every = rivals * (rivals - 1) // 2
    if pairs is None:
        pairs = every if rivals <= ALL_UP_TO else PAIRS_EACH * rivals
    return min(max(pairs, rivals - 1), every)


class PairSchedule:
    """The pairs of one prompt's rivals that were compared, their probabilities, and those that come next.

    seed: of the order of the cycle, and of the side that each rival is shown on.
    """

    def __init__(self, rivals: int, budget: int, seed: int) -> None:
        self.rivals, self.budget = rivals, budget
        self.pairs: list[Pair] = []
        self._p: list[Floats] = []
        self._order = np.random.default_rng(seed).permutation(rivals).tolist()

    def next_round(self) -> list[Pair]:
        """The pairs of rivals to compare next; none once the budget is spent."""
        left = self.budget - len(self.pairs)
        if left == 0:
            return []
        every = list(combinations(self._order, 2))
        if left == len(every):
            return every
        return self._cycle()[:left] if not self.pairs else self._most_informative(every)[:left]

    def add(self, pairs: list[Pair], p_PC: Floats) -> None:
        """Note the probabilities (P, 3) of the pairs of a round."""
        self.pairs += pairs
        self._p += list(p_PC)

    def strengths(self) -> Strengths:
        """The strengths by what was compared."""
        pair_P2: Ints = np.array(self.pairs, dtype=np.int64).reshape(-1, 2)
        return fit(pair_P2, np.reshape(self._p, (-1, 3)), self.rivals)

    def _cycle(self) -> list[Pair]:
        return list(zip(self._order, [*self._order[1:], self._order[0]], strict=True))

    def _most_informative(self, every: list[Pair]) -> list[Pair]:
        compared = {frozenset(pair) for pair in self.pairs}
        new = [pair for pair in every if frozenset(pair) not in compared]
        chosen: list[Pair] = []
        busy: set[int] = set()
        for n in np.argsort(-_gain(self.strengths(), np.array(new)), kind="stable"):
            if busy.isdisjoint(new[n]):
                chosen.append(new[n])
                busy.update(new[n])
        return chosen


def _gain(strengths: Strengths, pair_P2: Ints) -> Floats:
    """The information (P,) of a vote on the gap of a pair, times the variance of the gap and the weights of its rivals."""
    p_PC = strengths.probabilities(pair_P2)
    information_P = (p_PC[:, 0] + p_PC[:, 1] - (p_PC[:, 0] - p_PC[:, 1]) ** 2) / 4
    weight_P = np.sqrt(softmax(strengths.strengths_))[pair_P2].sum(axis=1)
    gain_P: Floats = information_P * strengths.gap_variance(pair_P2) * weight_P
    return gain_P
