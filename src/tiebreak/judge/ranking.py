"""Ranking of several responses to a prompt by pairs: best of n.

Of each prompt some pairs are judged, all or a budget of them (stats.pair_schedule), in rounds that are one batch for all
prompts. Davidson strengths (stats.davidson) are fitted to their probabilities. Equal responses are judged as one.

Dimension letters: P pairs, C classes (a, b, tie), N responses.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from hashlib import blake2b

import numpy as np
from scipy.special import softmax

from tiebreak.errors import TiebreakError
from tiebreak.pages import notebook
from tiebreak.stats.davidson import Floats
from tiebreak.stats.pair_schedule import Pair, PairSchedule, budget_of
from tiebreak.votes.formats.candidates import Candidates
from tiebreak.votes.formats.dialog import Turns
from tiebreak.votes.formats.vote import Vote

Predict = Callable[[Sequence[Vote], Callable[[float], None]], Floats]
"""Probabilities (P, 3) of unlabelled votes; the other argument is told which share is done."""


@dataclass(frozen=True)
class Ranking:
    """The ranking of N responses, by their indices.

    scores: (N,), log odds of mean 0 within the prompt: scores[i] - scores[j] is the logarithm of P(i preferred) /
    P(j preferred). Equal responses share a score. log_tie: log v of Davidson's model. pairs: those that were judged, each
    of two different responses.
    """

    scores: Floats
    log_tie: float
    pairs: Sequence[Pair]
    alike: Sequence[int]
    """(N,), the number of responses that are the same as each, itself counted."""

    @cached_property
    def order(self) -> list[int]:
        """The responses, best first; of equal ones the earlier first."""
        order: list[int] = np.argsort(-self.scores, kind="stable").tolist()
        return order

    @property
    def best(self) -> int:
        return self.order[0]

    @cached_property
    def p_best(self) -> Floats:
        """The probability (N,) that each would be chosen among all: its share exp(score) / sum, as Luce's choice axiom
        (1959) extends pairs to more. Equal responses divide the share of one.
        """
        share_N: Floats = softmax(self.scores - np.log(self.alike))
        return share_N

    def _repr_html_(self) -> str:
        """The responses, best first, for a notebook."""
        rows = [(n, f"{self.scores[n]:+.3f}", f"{self.p_best[n]:.1%}") for n in self.order]
        columns = ("response, by its index", "score", "P(best)")
        return notebook.fragment(
            f"A ranking of {len(rows)} by {len(self.pairs)} pairs", [notebook.Table(columns, rows)]
        )

    def probabilities(self, one: int, other: int) -> Floats:
        """P(one preferred), P(other preferred), P(tie), by the fitted model."""
        a, b = self.scores[[one, other]]
        p_C: Floats = softmax([a, b, self.log_tie + (a + b) / 2])
        return p_C


def rank(
    candidates: Sequence[Candidates],
    predict: Predict,
    pairs: int | None = None,
    report: Callable[[float], None] = lambda _: None,
) -> list[Ranking]:
    """Rank the responses of each prompt. pairs: how many to judge of a prompt, see `budget_of`.

    Raises TiebreakError for fewer than one pair.
    """
    if pairs is not None and pairs < 1:
        raise TiebreakError(
            f"the pairs to judge of a prompt are 1 or more, not {pairs!r:.40}; leave it out for the default"
        )
    distinct = [_distinct(found.responses) for found in candidates]
    schedules = [
        PairSchedule(len(groups), budget_of(len(groups), pairs), _seed(found))
        for groups, found in zip(distinct, candidates, strict=True)
    ]
    total, done = sum(schedule.budget for schedule in schedules), 0
    while rounds := [(n, found) for n, schedule in enumerate(schedules) if (found := schedule.next_round())]:
        asked = [(n, pair) for n, found in rounds for pair in found]
        votes = [_vote(candidates[n], *(distinct[n][side][0] for side in pair)) for n, pair in asked]
        p_PC = predict(votes, partial(_report_part, report, done / total, len(asked) / total))
        ends = np.cumsum([len(found) for _, found in rounds])[:-1]
        for (n, found), p in zip(rounds, np.split(p_PC, ends), strict=True):
            schedules[n].add(found, p)
        done += len(asked)
    return [_ranking(schedule, groups) for schedule, groups in zip(schedules, distinct, strict=True)]


def _report_part(report: Callable[[float], None], before: float, share: float, part: float) -> None:
    report(before + share * part)


def _distinct(responses: Sequence[Turns]) -> list[list[int]]:
    """The indices of the responses, those of equal texts together, in the order of the texts."""
    groups: dict[tuple[str, ...], list[int]] = {}
    for n, response in enumerate(responses):
        groups.setdefault(tuple(turn or "" for turn in response), []).append(n)
    return [groups[texts] for texts in sorted(groups)]


def _seed(candidates: Candidates) -> int:
    """A number made of the texts, whatever the place of the row and the order of its responses."""
    text = repr((candidates.prompt, sorted(map(repr, candidates.responses)))).encode("utf-8", "replace")
    return int.from_bytes(blake2b(text, digest_size=8).digest())


def _vote(candidates: Candidates, a: int, b: int) -> Vote:
    responses = candidates.responses
    return Vote(None, candidates.prompt, responses[a], responses[b], None, None, None)


def _ranking(schedule: PairSchedule, groups: Sequence[Sequence[int]]) -> Ranking:
    strengths = schedule.strengths()
    group_N = np.empty(sum(map(len, groups)), dtype=np.int64)
    for number, group in enumerate(groups):
        group_N[group] = number
    scores = strengths.strengths_[group_N]
    return Ranking(
        scores - scores.mean(),
        strengths.log_tie_,
        [(groups[a][0], groups[b][0]) for a, b in schedule.pairs],
        [len(groups[number]) for number in group_N.tolist()],
    )
