"""PPE, Preference Proxy Evaluations (Frick et al. 2024, arXiv:2410.14872): its accuracies.

Human preference: lmarena-ai/PPE-Human-Preference-V1 (prompt, response_1, response_2, winner; flags such as hard_prompt). The score is the
accuracy over votes that are no ties. Correctness: lmarena-ai/PPE-MMLU-Pro-Best-of-K and the four others (prompt, response_1 to response_32, scores,
sampled_conflict_pairs: a correct and an incorrect response, counted from 0). The score is the mean over benchmarks of the accuracy over
these pairs. What needs a score of each response by itself, best-of-K curves and ROC areas, is not computed, nor are the correlations
of rankings.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tiebreak.evaluate.bench.suite import Answers, Figure, Question, Suite, mean_of, question
from tiebreak.stats.strata import Rows
from tiebreak.votes.formats.dialog import RowError

FLAGS = ("hard_prompt", "easy_prompt", "if_prompt", "math_prompt", "is_code")
BENCHMARKS = {
    "MBPP-Plus": "test_list",
    "GPQA": "Record ID",
    "IFEval": "instruction_id_list",
    "MMLU-Pro": "answer_index",
}
"""The correctness benchmarks by a column that only one of them has; MATH has none of these."""


@dataclass(frozen=True)
class PpePreference(Suite):
    """Subsets are the names of a vote's flags and its language, with | between them."""

    name = "PPE human preference"
    dataset = "lmarena-ai/PPE-Human-Preference-V1"

    def rows(self, answers: Answers) -> Rows:
        parts = [
            (answers.shipped_N[inside_N], np.full(int(inside_N.sum()), name), self.clusters_N[inside_N])
            for name, inside_N in self._parts().items()
        ]
        values, names, clusters = zip(*parts, strict=True)
        return Rows(np.concatenate(values), np.concatenate(names), np.concatenate(clusters))

    def figures(self) -> list[Figure]:
        return [mean_of(name, [name]) for name in self._parts()]

    def _parts(self) -> dict[str, Any]:
        """Masks of the questions of each figure; of languages, English and all others."""
        tags = [question.subset.split("|") for question in self.questions]
        parts = {"score": np.ones(len(tags), dtype=bool)}
        for name in (*FLAGS, "English", "other languages"):
            inside_N = np.array([name in own for own in tags])
            if inside_N.any():
                parts[name] = inside_N
        return parts


@dataclass(frozen=True)
class PpeCorrectness(Suite):
    name = "PPE correctness"
    dataset = "lmarena-ai/PPE-MMLU-Pro-Best-of-K"
    published = (*BENCHMARKS, "MATH")

    def rows(self, answers: Answers) -> Rows:
        return Rows(answers.shipped_N, self.subsets_N, self.clusters_N)

    def figures(self) -> list[Figure]:
        return [mean_of("score", self.subsets()), *(mean_of(name, [name]) for name in self.subsets())]


def is_preference(record: Mapping[str, Any], _: Path) -> bool:
    return {"prompt", "response_1", "response_2", "winner", "question_id"} <= record.keys()


def preference_questions(record: Mapping[str, Any], _: Path, number: int) -> list[Question]:
    """The question of a vote; none of a tie. Raises RowError for an unknown winner."""
    first, second = record["response_1"], record["response_2"]
    match str(record["winner"]):
        case "model_a":
            right, wrong = first, second
        case "model_b":
            right, wrong = second, first
        case winner if winner.startswith("tie"):
            return []
        case winner:
            raise RowError("winner is none of model_a, model_b, tie, tie (bothbad)", winner)
    tags = [flag for flag in FLAGS if record.get(flag)]
    if record.get("language"):
        tags.append("English" if record["language"] == "English" else "other languages")
    return [question(record["prompt"], right, wrong, "|".join(tags), str(number))]


def is_correctness(record: Mapping[str, Any], _: Path) -> bool:
    return {"prompt", "response_1", "scores", "sampled_conflict_pairs"} <= record.keys()


def correctness_questions(record: Mapping[str, Any], _: Path, number: int) -> list[Question]:
    """The questions of a row, one for each sampled pair. Raises RowError for a pair of equal scores or of no responses."""
    scores = list(record["scores"])
    benchmark = next((name for name, column in BENCHMARKS.items() if column in record), "MATH")
    found = []
    for pair in record["sampled_conflict_pairs"]:
        one, other = (int(index) for index in pair)
        if not (0 <= one < len(scores) and 0 <= other < len(scores)) or scores[one] == scores[other]:
            raise RowError(
                "a conflict pair is not of a correct and an incorrect response", f"{one} and {other}"
            )
        right, wrong = (one, other) if scores[one] else (other, one)
        correct, incorrect = (record[f"response_{index + 1}"] for index in (right, wrong))
        found.append(question(record["prompt"], correct, incorrect, benchmark, str(number)))
    return found
