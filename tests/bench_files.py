"""Small made-up benchmarks in exactly the published shapes, and a judge that prefers the answer with more exclamation marks."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import json_lines
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq


class Marks:
    """A judge whose logit of an answer is its number of exclamation marks; the answer shown first gets `first` more."""

    def __init__(self, first: float = 0.0) -> None:
        self.first = first
        self.postprocessing = SimpleNamespace(to_probabilities=lambda _, z_NOC: _softmax(z_NOC.mean(axis=1)))

    def logits(self, table: pa.Table, both: bool, report: Any = None) -> np.ndarray:
        a, b = (
            np.array(
                [
                    sum(turn.count("!") for turn in turns if turn)
                    for turns in table[f"response_{side}"].to_pylist()
                ]
            )
            for side in "ab"
        )
        tie = np.full(len(table), -1.0)
        return np.stack(
            [np.column_stack([a + self.first, b, tie]), np.column_stack([a, b + self.first, tie])], axis=1
        ).astype(float)

    def predict_table(self, table: pa.Table, both: bool | None = None, report: Any = None) -> np.ndarray:
        return _softmax(self.logits(table, True).mean(axis=1))


def _softmax(z_NC: np.ndarray) -> np.ndarray:
    p_NC = np.exp(z_NC - z_NC.max(axis=1, keepdims=True))
    return p_NC / p_NC.sum(axis=1, keepdims=True)


GOOD, BAD, SAME = ("yes!!", "no"), ("yes", "no!!"), ("yes!", "no!")
"""Texts of a right and a wrong answer that the judge gets right, wrong, and cannot tell."""


def rewardbench(folder: Path, hits: dict[str, list[tuple[str, str]]]) -> Path:
    """allenai/reward-bench: data/filtered-00000-of-00001.parquet, and a raw split that is not to be read."""
    rows = [
        {
            "prompt": f"question {subset} {n}",
            "chosen": right,
            "chosen_model": "m1",
            "rejected": wrong,
            "rejected_model": "m2",
            "subset": subset,
            "id": 100 * number + n,
        }
        for number, (subset, answers) in enumerate(hits.items())
        for n, (right, wrong) in enumerate(answers)
    ]
    (folder / "data").mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows), folder / "data" / "filtered-00000-of-00001.parquet")
    pq.write_table(pa.Table.from_pylist(rows[:1] * 3), folder / "data" / "raw-00000-of-00001.parquet")
    (folder / "README.md").write_text("# RewardBench")
    return folder


def prior_sets(folder: Path, hits: dict[str, list[tuple[str, str]]]) -> Path:
    """allenai/preference-test-sets: a split a file, prompts as messages."""
    (folder / "data").mkdir(parents=True, exist_ok=True)
    for split, answers in hits.items():
        rows = [
            {
                "prompt": [
                    {"content": f"first {split} {n}", "role": "user"},
                    {"content": "well", "role": "assistant"},
                    {"content": "and then?", "role": "user"},
                ],
                "chosen": right,
                "rejected": wrong,
            }
            for n, (right, wrong) in enumerate(answers)
        ]
        pq.write_table(pa.Table.from_pylist(rows), folder / "data" / f"{split}-00000-of-00001-0f1e.parquet")
    return folder


def rewardbench2(folder: Path, rows: list[dict[str, Any]]) -> Path:
    """allenai/reward-bench-2: data/test-00000-of-00001.parquet. rows: id, subset, chosen, rejected."""
    full = [
        {
            **row,
            "prompt": f"question {row['id']}",
            "num_correct": len(row["chosen"]),
            "num_incorrect": len(row["rejected"]),
            "total_completions": len(row["chosen"]) + len(row["rejected"]),
            "models": ["m"] * (len(row["chosen"]) + len(row["rejected"])),
            "additional_metadata": {"category": None},
        }
        for row in rows
    ]
    (folder / "data").mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(full), folder / "data" / "test-00000-of-00001.parquet")
    return folder


def judgebench(folder: Path, rows: list[tuple[str, str, str, str]], model: str = "gpt-4o-2024-05-13") -> Path:
    """ScalerLab/JudgeBench: data/dataset=judgebench,response_model=....jsonl. rows: source, answers A and B, label."""
    (folder / "data").mkdir(parents=True, exist_ok=True)
    json_lines.write(
        folder / "data" / f"dataset=judgebench,response_model={model}.jsonl",
        [
            {
                "pair_id": f"{model}-{n}",
                "original_id": str(n),
                "source": source,
                "question": f"question {source} {n} {model}",
                "response_model": model,
                "response_A": a,
                "response_B": b,
                "label": label,
            }
            for n, (source, a, b, label) in enumerate(rows)
        ],
    )
    return folder


def ppe_preference(folder: Path, rows: list[dict[str, Any]]) -> Path:
    """lmarena-ai/PPE-Human-Preference-V1. rows: winner, response_1, response_2, language, hard_prompt."""
    full = [
        {
            "question_id": f"q{n}",
            "model_a": "m1",
            "model_b": "m2",
            "prompt": f"question {n}",
            "conv_metadata": {"turns": 1},
            "is_code": False,
            "easy_prompt": False,
            "if_prompt": False,
            "math_prompt": False,
            **row,
        }
        for n, row in enumerate(rows)
    ]
    (folder / "data").mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(full), folder / "data" / "test-00000-of-00001.parquet")
    return folder


def ppe_correctness(
    folder: Path, extra: dict[str, Any], rows: list[tuple[list[str], list[bool], list[list[int]]]]
) -> Path:
    """A Best-of-K set of lmarena-ai: responses, whether each is correct, and pairs of them. extra: the benchmark's own columns."""
    full = [
        {
            "question_id": f"q{n}",
            "prompt": f"question {folder.name} {n}",
            "model_name": "m",
            "scores": scores,
            "mean_score": float(np.mean(scores)),
            "conflict_pairs": pairs,
            "sampled_conflict_pairs": pairs,
            **extra,
            **{f"response_{k + 1}": text for k, text in enumerate(texts)},
        }
        for n, (texts, scores, pairs) in enumerate(rows)
    ]
    (folder / "data").mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(full), folder / "data" / "train-00000-of-00001.parquet")
    return folder


def llmbar(folder: Path, subsets: dict[str, list[tuple[str, str, int]]]) -> Path:
    """princeton-nlp/LLMBar: Dataset/LLMBar/.../dataset.json, and a case study that does not count."""
    for subset, rows in subsets.items():
        place = folder / "Dataset" / "LLMBar" / subset
        place.mkdir(parents=True)
        records = [
            {"input": f"do {subset} {n}", "output_1": one, "output_2": two, "label": label}
            for n, (one, two, label) in enumerate(rows)
        ]
        (place / "dataset.json").write_text(json.dumps(records, indent=2))
    other = folder / "Dataset" / "CaseStudy" / "Negation"
    other.mkdir(parents=True)
    (other / "dataset.json").write_text(
        json.dumps([{"input": "x", "output_1": "a", "output_2": "b", "label": 1}])
    )
    return folder
