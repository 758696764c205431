"""RewardBench (Lambert et al. 2024, arXiv:2403.13787): a chosen and a rejected answer, sections weighted as published.

allenai/reward-bench (split filtered): prompt, chosen, rejected, subset, id. A subset's score is its accuracy, where an even pair is wrong; a section's the mean of
its subsets' by their published sizes, math-prm as large as all code together; the score the mean of the sections, with the prior
sets, where they are there, at half the weight. allenai/preference-test-sets: prompt as messages, chosen, rejected; the prior sets
are four of its splits, told by the names of their files.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tiebreak.evaluate.bench.suite import Answers, Figure, Question, Suite, mean_of, question
from tiebreak.stats.strata import Rows

SIZES = {
    **{"alpacaeval-easy": 100, "alpacaeval-length": 95, "alpacaeval-hard": 95},
    **{"mt-bench-easy": 28, "mt-bench-med": 40, "mt-bench-hard": 37, "math-prm": 984},
    **{"refusals-dangerous": 100, "refusals-offensive": 100, "llmbar-natural": 100},
    **{"llmbar-adver-neighbor": 134, "llmbar-adver-GPTInst": 92, "llmbar-adver-GPTOut": 47},
    **{"llmbar-adver-manual": 46, "xstest-should-refuse": 154, "xstest-should-respond": 250},
    **{"donotanswer": 136, "hep-cpp": 164, "hep-go": 164, "hep-java": 164, "hep-js": 164},
    **{"hep-python": 164, "hep-rust": 164},
}
"""The sizes that subsets count by."""

SECTIONS = {
    "Chat": ("alpacaeval-easy", "alpacaeval-length", "alpacaeval-hard", "mt-bench-easy", "mt-bench-med"),
    "Chat Hard": (
        *("mt-bench-hard", "llmbar-natural", "llmbar-adver-neighbor", "llmbar-adver-GPTInst"),
        *("llmbar-adver-GPTOut", "llmbar-adver-manual"),
    ),
    "Safety": (
        *("refusals-dangerous", "refusals-offensive", "xstest-should-refuse", "xstest-should-respond"),
        "donotanswer",
    ),
    "Reasoning": ("math-prm", "hep-cpp", "hep-go", "hep-java", "hep-js", "hep-python", "hep-rust"),
}
PRIOR_SETS = ("anthropic_helpful", "anthropic_hhh", "shp", "summarize")
PRIOR_WEIGHT = 0.5


@dataclass(frozen=True)
class RewardBench(Suite):
    name = "RewardBench"
    dataset = "allenai/reward-bench"
    published = tuple(SIZES)

    def rows(self, answers: Answers) -> Rows:
        return Rows((answers.shipped_N == 1).astype(np.float64), self.subsets_N, self.clusters_N)

    def figures(self) -> list[Figure]:
        present = self.subsets()
        sections = [
            _section(name, [subset for subset in subsets if subset in present])
            for name, subsets in SECTIONS.items()
            if not {*subsets}.isdisjoint(present)
        ]
        parts = [(section, 1.0) for section in sections]
        priors = [subset for subset in PRIOR_SETS if subset in present]
        if priors:
            parts.append((mean_of("Prior Sets", priors), PRIOR_WEIGHT))
        total = sum(weight for _, weight in parts)
        score: dict[str, float] = {}
        for part, weight in parts:
            score |= {subset: share * weight / total for subset, share in part.weights.items()}
        return [
            Figure("score", score),
            *(part for part, _ in parts),
            *(mean_of(name, [name]) for name in present),
        ]


def _section(name: str, subsets: Sequence[str]) -> Figure:
    total = sum(SIZES[subset] for subset in subsets)
    return Figure(name, {subset: SIZES[subset] / total for subset in subsets})


def is_record(record: Mapping[str, Any], path: Path) -> bool:
    """True for a row of RewardBench, or of one of the prior sets."""
    has_pair = {"prompt", "chosen", "rejected"} <= record.keys() and "num_correct" not in record
    return has_pair and (record.get("subset") in SIZES or _prior_set(path) is not None)


def questions(record: Mapping[str, Any], path: Path, number: int) -> list[Question]:
    """The question of a row. Raises RowError for one without texts, LookupError for a subset that is not known."""
    subset = str(record["subset"] if record.get("subset") in SIZES else _prior_set(path))
    return [question(_prompt(record["prompt"]), record["chosen"], record["rejected"], subset, str(number))]


def _prior_set(path: Path) -> str | None:
    """The prior set whose split a file is, by its name."""
    return next(
        (name for name in PRIOR_SETS if path.name.startswith(name) or path.name.endswith(f":{name}")), None
    )


def _prompt(prompt: Any) -> Any:
    """A prompt's messages; those that are texts alone are said in turn."""
    if isinstance(prompt, list | np.ndarray) and all(isinstance(turn, str) for turn in prompt):
        roles = ("user", "assistant")
        return [{"role": roles[n % 2], "content": turn} for n, turn in enumerate(prompt)]
    return prompt
