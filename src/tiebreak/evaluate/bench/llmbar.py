"""LLMBar (Zeng et al. 2023, arXiv:2310.07641): which of two outputs follows an instruction, asked in both orders.

princeton-nlp/LLMBar: input, output_1, output_2, label (1 or 2), in Dataset/LLMBar/Natural and Adversarial/{Neighbor, GPTInst, GPTOut,
Manual}, told by the path. Accuracy is the mean over both orders, as published; beside it the share of pairs that are right in both, of
those whose orders agree, and the accuracy as shipped. The score is the mean over the subsets.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tiebreak.evaluate.bench.suite import Answers, Figure, Question, Suite, mean_of, question
from tiebreak.stats.strata import Rows
from tiebreak.votes.formats.dialog import RowError

SUBSETS = ("Natural", "Neighbor", "GPTInst", "GPTOut", "Manual")


@dataclass(frozen=True)
class LlmBar(Suite):
    name = "LLMBar"
    dataset = "princeton-nlp/LLMBar"
    published = SUBSETS

    def rows(self, answers: Answers) -> Rows:
        first_N, second_N = answers.orders_NO.T
        return self.rows_by_rule(
            {
                "accuracy": (first_N + second_N) / 2,
                "right in both orders": ((first_N == 1) & (second_N == 1)).astype(np.float64),
                "consistent": (first_N == second_N).astype(np.float64),
                "as shipped": answers.shipped_N,
            }
        )

    def figures(self) -> list[Figure]:
        present = self.subsets()
        adversarial = [subset for subset in present if subset != "Natural"]
        found = [mean_of("score", [f"accuracy, {subset}" for subset in present])]
        if adversarial:
            found.append(mean_of("adversarial", [f"accuracy, {subset}" for subset in adversarial]))
        for rule in ("right in both orders", "consistent", "as shipped"):
            found.append(mean_of(rule, [f"{rule}, {subset}" for subset in present]))
        return [*found, *(mean_of(f"accuracy, {subset}", [f"accuracy, {subset}"]) for subset in present)]


def is_record(record: Mapping[str, Any], path: Path) -> bool:
    """True for a row of one of the five subsets of LLMBar; its repository holds case studies and other sets besides."""
    return {"input", "output_1", "output_2", "label"} <= record.keys() and _subset(path) is not None


def questions(record: Mapping[str, Any], path: Path, number: int) -> list[Question]:
    """The question of a row. Raises RowError for a label that is neither 1 nor 2."""
    match str(record["label"]):
        case "1":
            right, wrong = record["output_1"], record["output_2"]
        case "2":
            right, wrong = record["output_2"], record["output_1"]
        case label:
            raise RowError("label is neither 1 nor 2", label)
    return [question(record["input"], right, wrong, str(_subset(path)), str(number))]


def _subset(path: Path) -> str | None:
    """The subset that the path names, by its folder or by a split of the hub's, such as Adversarial_Neighbor."""
    words = path.with_suffix("").as_posix().replace("_", "/").replace("-", "/").replace(":", "/").split("/")
    return next((subset for subset in SUBSETS if subset in words), None)
