"""RewardBench 2 (Malik et al. 2025, arXiv:2506.01937): best of four, and questions with several right answers.

allenai/reward-bench-2: id, prompt, chosen and rejected (lists of texts), num_correct, subset. Outside of Ties the one right answer has to
be preferred to each of the three others; where it ties with some of them, it counts one part of as many as there are best ones. In
Ties, responses have scores, here the log odds that `tiebreak rank` gives them: 0.3 each for the right answers all scoring above the wrong ones, with
one right answer (ref) and with several (tied); 0.2 each for the margin between right and wrong being larger than that among the right
ones, of the tied question and of the smaller of both margins; and 0.01 for how much larger. The score is the mean of the subsets.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tiebreak.evaluate.bench.suite import Answers, Figure, Question, Suite, mean_of, prompt_clusters, question
from tiebreak.stats.metrics import Array
from tiebreak.stats.strata import Rows
from tiebreak.votes.formats.candidates import Candidates, read_record
from tiebreak.votes.formats.dialog import RowError

SUBSETS = ("Factuality", "Precise IF", "Math", "Safety", "Focus", "Ties")
PARTS = {
    "Ties: tied accuracy": 0.30,
    "Ties: ref accuracy": 0.30,
    "Ties: right preferred": 0.20,
    "Ties: right preferred, hard": 0.20,
    "Ties: margin": 0.01,
}
"""The weights of what Ties consists of, which add up to 1.01."""
TIES_BOUNDS = (-0.01, 1.01)
"""Between which the score of Ties is, its margin being between -1 and 1."""


@dataclass(frozen=True)
class TiesQuestion:
    """A question of Ties: its number, ref or tied, and how many of its first responses are right."""

    number: int
    kind: str
    right: int


@dataclass(frozen=True)
class RewardBench2(Suite):
    ties: Sequence[TiesQuestion] = field(default=())
    name = "RewardBench 2"
    dataset = "allenai/reward-bench-2"

    def rows(self, answers: Answers) -> Rows:
        found = [*self._best_of(answers), *self._ties(answers)]
        values, strata, prompts = zip(*found, strict=True)
        return Rows(np.array(values, dtype=np.float64), np.array(strata, dtype=str), prompt_clusters(prompts))

    def figures(self) -> list[Figure]:
        present = {*self.subsets()} | ({"Ties"} if self.ties else set())
        each = [
            Figure(name, PARTS, TIES_BOUNDS) if name == "Ties" else Figure(name, {name: 1.0})
            for name in (*SUBSETS, *sorted(present - {*SUBSETS}))
            if name in present
        ]
        score = {part: share / len(each) for figure in each for part, share in figure.weights.items()}
        low, high = np.mean([figure.bounds for figure in each], axis=0).tolist()
        margin = "Ties: margin"
        parts = [Figure(name, {name: 1.0}, (-1.0 if name == margin else 0.0, 1.0)) for name in PARTS]
        return [Figure("score", score, (low, high)), *each, *(parts if self.ties else ())]

    def _best_of(self, answers: Answers) -> Iterator[tuple[float, str, Sequence[str | None]]]:
        """Value, subset and prompt of each item: 1 where the right answer beats all others, less where it ties with some."""
        items: dict[str, list[int]] = {}
        for n, asked in enumerate(self.questions):
            items.setdefault(asked.item, []).append(n)
        for numbers in items.values():
            hits = answers.shipped_N[numbers]
            first = self.questions[numbers[0]]
            value = 0.0 if hits.min() == 0 else 1 / (1 + int((hits == 0.5).sum()))
            yield value, first.subset, first.vote.prompt

    def _ties(self, answers: Answers) -> Iterator[tuple[float, str, Sequence[str | None]]]:
        """Value, part and prompt of what each question of Ties adds; margins need both questions of a number."""
        margins: dict[tuple[str, int], tuple[float, float]] = {}
        prompts: dict[int, Sequence[str | None]] = {}
        for asked, found, scores in zip(self.ties, self.lists, answers.scores, strict=True):
            among, between = _margins(scores, asked.right)
            margins[asked.kind, asked.number] = among, between
            prompts[asked.number] = found.prompt
            yield float(between > 0), f"Ties: {asked.kind} accuracy", found.prompt
        for kind, number in margins:
            if kind == "tied" and ("ref", number) in margins:
                among, between = margins["tied", number]
                least = min(between, margins["ref", number][1])
                margin = np.tanh(least / among - 1) if among > 0 else float(np.sign(least))
                for part, value in (
                    ("right preferred", between > among),
                    ("right preferred, hard", least > among),
                    ("margin", margin),
                ):
                    yield float(value), f"Ties: {part}", prompts[number]


def _margins(scores_N: Array, right: int) -> tuple[float, float]:
    """The margin among the right answers' scores, and from the lowest of them down to the best wrong one."""
    correct, wrong = scores_N[:right], scores_N[right:]
    return float(correct.max() - correct.min()), float(correct.min() - wrong.max())


def is_record(record: Mapping[str, Any], _: Path) -> bool:
    return {"prompt", "chosen", "rejected", "num_correct", "subset"} <= record.keys()


def questions(record: Mapping[str, Any], number: int) -> list[Question]:
    """The questions of a row outside of Ties, one for each wrong answer. Raises RowError for a row of another shape."""
    chosen, rejected = list(record["chosen"]), list(record["rejected"])
    if len(chosen) != 1 or not rejected:
        raise RowError("not one right answer and some wrong ones", f"{len(chosen)} and {len(rejected)}")
    subset = str(record["subset"])
    return [question(record["prompt"], chosen[0], wrong, subset, str(number)) for wrong in rejected]


def ties_question(record: Mapping[str, Any]) -> tuple[TiesQuestion, Candidates]:
    """A row of Ties: what it is, and its responses, the right ones first. Raises RowError for a row of another shape."""
    kind, _, number = str(record["id"]).partition(":")
    right, wrong = list(record["chosen"]), list(record["rejected"])
    if kind not in ("ref", "tied") or not number.isdecimal() or not right or not wrong:
        raise RowError(
            "no question of Ties: its id is ref:N or tied:N, and it has right and wrong answers", kind
        )
    if int(record["num_correct"]) != len(right):
        raise RowError("num_correct is not the number of chosen answers", str(record["num_correct"]))
    found = read_record({"prompt": record["prompt"], "responses": [*right, *wrong]})
    if found.error:
        raise RowError(found.error)
    return TiesQuestion(int(number), kind, len(right)), found
