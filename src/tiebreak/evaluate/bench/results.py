"""Results of judges on benchmarks: figures with intervals, paired changes, and the hub's form of evaluation results."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from tiebreak.evaluate.bench.suite import Answers, Suite
from tiebreak.stats.strata import weighted_change, weighted_share


def results(suite: Suite, judges: Sequence[str], answers: Sequence[Answers]) -> list[dict[str, Any]]:
    """The figures of each judge on a benchmark, the main one first, and from the second judge on the change from the first.

    Plain dicts, ready for JSON. Intervals are 95 % ones, and take items of nearly the same prompt together.
    """
    rows = [suite.rows(own) for own in answers]
    found = []
    for n, (name, own) in enumerate(zip(judges, rows, strict=True)):
        figures = []
        for figure in suite.figures():
            share = weighted_share(own, figure.weights, figure.bounds)
            row: dict[str, Any] = {"name": figure.name, **asdict(share)}
            if n:
                row["change"] = asdict(weighted_change(own.less(rows[0]), figure.weights, figure.bounds))
            figures.append(row)
        found.append(
            {
                "judge": name,
                "suite": suite.name,
                "dataset": suite.dataset,
                "questions": len(suite.questions) + len(suite.lists),
                "missing": suite.missing(),
                "figures": figures,
                "eval_results": eval_results(suite, figures[0]["value"]),
            }
        )
    return found


def eval_results(suite: Suite, score: float) -> list[dict[str, Any]]:
    """The score as an entry of `.eval_results/*.yaml` in a model's repository of the hub, in per cent as leaderboards have it."""
    from huggingface_hub import EvalResultEntry, eval_result_entries_to_yaml

    entry = EvalResultEntry(dataset_id=suite.dataset, task_id="default", value=round(100 * score, 2))
    return eval_result_entries_to_yaml([entry])
