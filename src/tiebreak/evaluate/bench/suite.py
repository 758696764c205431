"""What benchmarks share: questions with a right answer, a judge's answers to them, scores with intervals.

A judge must choose: the answer with the larger probability is its choice, whatever the probability of a tie; equal ones are a
draw, which counts half unless a benchmark says otherwise.

Dimension letters: N questions, C classes (a, b, tie), O orders, R rows.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tiebreak.judge.postprocessing import require_probabilities
from tiebreak.stats import round_robin
from tiebreak.stats.metrics import Array
from tiebreak.stats.strata import Rows
from tiebreak.votes.formats.candidates import Candidates
from tiebreak.votes.formats.labels import A
from tiebreak.votes.formats.readers import votes_table
from tiebreak.votes.formats.record_formats import PAIR, ReadOptions
from tiebreak.votes.formats.vote import Vote, random_side
from tiebreak.votes.near_duplicates import prompt_groups
from tiebreak.votes.schema import probabilities, swap_answers, table_of


class Judges(Protocol):
    """A judge, as judge.judge.PairJudge."""

    def logits(self, table: pa.Table, both: bool, report: Callable[..., None] = ...) -> Array: ...
    def predict_table(
        self, table: pa.Table, both: bool | None = None, report: Callable[..., None] = ...
    ) -> Array: ...
    @property
    def postprocessing(self) -> Any: ...


@dataclass(frozen=True)
class Question:
    """A pair of answers of which one is right, as the vote's label says. subset: of the benchmark. item: what it is part of."""

    vote: Vote
    subset: str
    item: str


@dataclass(frozen=True)
class Answers:
    """A judge's answers to N questions: 1 where it chose the right one, 0 the wrong one, 0.5 neither.

    shipped_N: by its probabilities as they ship. orders_NO: by its logits in the stored order and in the other one. scores: of the
    lists, of each response by a round robin (stats.round_robin).
    """

    shipped_N: Array
    orders_NO: Array
    scores: Sequence[Array] = ()


@dataclass(frozen=True)
class Figure:
    """A figure of a benchmark: the sum of weight times mean over its subsets. bounds: the lowest and the highest there is."""

    name: str
    weights: Mapping[str, float]
    bounds: tuple[float, float] = (0.0, 1.0)


def mean_of(name: str, subsets: Sequence[str]) -> Figure:
    """The mean of the means of some subsets."""
    return Figure(name, dict.fromkeys(subsets, 1 / len(subsets)))


@dataclass(frozen=True)
class Suite(ABC):
    """A benchmark that was read. lists: responses to score. A subclass scores it by its own rules, its main figure first."""

    published: ClassVar[Collection[str]] = ()
    """The subsets that its score is over."""

    questions: Sequence[Question]
    lists: Sequence[Candidates] = field(default=())

    @property
    @abstractmethod
    def name(self) -> str: ...

    @property
    @abstractmethod
    def dataset(self) -> str:
        """Its name on the hub."""

    @abstractmethod
    def rows(self, answers: Answers) -> Rows:
        """What the figures are computed from."""

    @abstractmethod
    def figures(self) -> list[Figure]: ...

    @cached_property
    def table(self) -> pa.Table:
        """The questions in votes.schema.SCHEMA, labelled with the right answer."""
        votes = [question.vote._replace(id=str(n)) for n, question in enumerate(self.questions)]
        return votes_table(votes)

    @cached_property
    def clusters_N(self) -> NDArray[np.int64]:  # noqa: N802
        """The prompt group of each question; near-duplicate prompts share one."""
        return prompt_groups(self.table)

    @property
    def subsets_N(self) -> NDArray[Any]:  # noqa: N802
        return np.array([question.subset for question in self.questions], dtype=str)

    def rows_by_rule(self, values: Mapping[str, Array]) -> Rows:
        """Rows of several values (n,) of each question, by the name of the rule, in subsets named `rule, subset`."""
        names = [np.char.add(f"{rule}, ", self.subsets_N) for rule in values]
        return Rows(
            np.concatenate(list(values.values())),
            np.concatenate(names),
            np.tile(self.clusters_N, len(values)),
        )

    def subsets(self) -> list[str]:
        """The names of the subsets that questions are in."""
        return sorted({question.subset for question in self.questions})

    def missing(self) -> list[str]:
        """The published subsets that are not there: a score without them is not the benchmark's."""
        present = self.subsets()
        return [name for name in self.published if name not in present]


def question(prompt: Any, right: Any, wrong: Any, subset: str, item: str) -> Question:
    """A question, its right answer on a side drawn by a hash of the texts. Raises RowError for texts that are none."""
    record = {"prompt": prompt, "response_a": right, "response_b": wrong}
    (vote,) = PAIR.votes(record, ReadOptions(labelled=False))
    return Question(random_side(vote._replace(p=A)), subset, item)


def ask(judge: Judges, suite: Suite, report: Callable[[float], None] = lambda _: None) -> Answers:
    """Ask a judge all questions of a benchmark, in both orders, and score its lists.

    Raises TiebreakError for a judge that gives no probabilities.
    """
    z_NOC = (
        judge.logits(suite.table, True, lambda _, done, total, __: report(done / total))
        if suite.questions
        else np.empty((0, 2, 3))
    )
    y_NC = probabilities(suite.table)
    p_NC = (
        require_probabilities(judge.postprocessing.to_probabilities(suite.table, z_NOC))
        if suite.questions
        else y_NC
    )
    return Answers(
        choices(p_NC, y_NC),
        np.stack([choices(z_NOC[:, order], y_NC) for order in (0, 1)], axis=1),
        _round_robin(judge, suite.lists, report) if suite.lists else (),
    )


def _round_robin(judge: Judges, lists: Sequence[Candidates], report: Callable[[float], None]) -> list[Array]:
    """The scores of the responses in each list, from all pairs of them; which is shown first is drawn by a hash of the texts."""
    counts = [len(found.responses) for found in lists]
    answers = [(found.prompt, response) for found in lists for response in found.responses]
    votes = [
        Vote(None, answers[a][0], answers[a][1], answers[b][1], None, None, None)
        for a, b in round_robin.pairs(counts).tolist()
    ]
    shown = [random_side(vote) for vote in votes]
    p_PC = judge.predict_table(votes_table(shown), report=lambda _, done, total, __: report(done / total))
    swapped_P = np.array([one is not vote for one, vote in zip(shown, votes, strict=True)])
    p_PC = swap_answers(p_PC, swapped_P)
    score_N = round_robin.scores(p_PC[:, 0] + p_PC[:, 2] / 2, counts)
    return np.split(score_N, np.cumsum(counts)[:-1])


def choices(x_NC: Array, y_NC: Array) -> Array:
    """1 where the right answer's probability or logit is the larger of the two, 0 where it is the smaller, else 0.5."""
    lead_N = (x_NC[:, 0] - x_NC[:, 1]) * np.where(y_NC[:, 0] > y_NC[:, 1], 1, -1)
    chosen: Array = (np.sign(lead_N) + 1) / 2
    return chosen


def prompt_clusters(prompts: Sequence[Sequence[str | None]]) -> NDArray[np.int64]:
    """The prompt group of each of some prompts; near-duplicates share one."""
    return prompt_groups(
        table_of(
            {"id": str(n), "prompt": list(p), "response_a": [], "response_b": []}
            for n, p in enumerate(prompts)
        )
    )
