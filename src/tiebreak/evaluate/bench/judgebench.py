"""JudgeBench (Tan et al. 2024, arXiv:2410.12784): which of two answers to a hard question is correct, asked in both orders.

ScalerLab/JudgeBench: pair_id, source, question, response_model, response_A, response_B, label (A>B or B>A). A pair is correct if one order
is and the other is not wrong; two orders that contradict each other are a tie, which is not correct. The score is over all pairs of a response
model, gpt-4o's where both are there. Beside it: how often both orders agree, and the choice as shipped, by the published rule
for judges whose choice does not depend on the order (--single_game): a draw is not correct.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tiebreak.evaluate.bench.suite import Answers, Figure, Question, Suite, mean_of, question
from tiebreak.stats.strata import Rows
from tiebreak.votes.formats.dialog import RowError

COLUMNS = {"pair_id", "source", "question", "response_A", "response_B", "label"}
SOURCES = ("mmlu-pro", "livebench-reasoning", "livebench-math", "livecodebench")
MAIN = "gpt-4o"
"""The response model whose pairs the published tables are of."""


@dataclass(frozen=True)
class JudgeBench(Suite):
    name = "JudgeBench"
    dataset = "ScalerLab/JudgeBench"

    def rows(self, answers: Answers) -> Rows:
        first_N, second_N = answers.orders_NO.T
        return self.rows_by_rule(
            {
                "both orders": (first_N + second_N > 1).astype(np.float64),
                "consistent": (first_N == second_N).astype(np.float64),
                "as shipped": (answers.shipped_N == 1).astype(np.float64),
            }
        )

    def figures(self) -> list[Figure]:
        models = sorted({subset.partition("|")[0] for subset in self.subsets()})
        models.sort(key=lambda model: not model.startswith(MAIN))
        found = []
        for model in models:
            own = [subset for subset in self.subsets() if subset.partition("|")[0] == model]
            counts = {subset: int((self.subsets_N == subset).sum()) for subset in own}
            prefix = f"{model}: " if len(models) > 1 else ""
            for rule in ("both orders", "as shipped", "consistent"):
                weights = {
                    f"{rule}, {subset}": count / sum(counts.values()) for subset, count in counts.items()
                }
                found.append(Figure(f"{prefix}{rule}", weights))
            found += [mean_of(f"{prefix}both orders, {_source(s)}", [f"both orders, {s}"]) for s in own]
        return [Figure("score", found[0].weights), *found]


def _source(subset: str) -> str:
    return subset.partition("|")[2]


def is_record(record: Mapping[str, Any], _: Path) -> bool:
    return record.keys() >= COLUMNS


def questions(record: Mapping[str, Any], _: Path, number: int) -> list[Question]:
    """The question of a row, its subset the response model and the source. Raises RowError for an unknown label."""
    a, b = record["response_A"], record["response_B"]
    match record["label"]:
        case "A>B":
            right, wrong = a, b
        case "B>A":
            right, wrong = b, a
        case label:
            raise RowError("label is neither A>B nor B>A", f"{label!r}")
    source = next((name for name in SOURCES if str(record["source"]).startswith(name)), str(record["source"]))
    subset = f"{record.get('response_model') or 'unknown'}|{source}"
    return [question(record["question"], right, wrong, subset, str(number))]
