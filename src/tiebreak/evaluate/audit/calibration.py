"""Calibration of a judge, over all votes and by slice: what a test finds, corrected for testing many slices.

Dimension letters: N votes, C classes (a, b, tie).
"""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tiebreak.evaluate.bias import MAX_SLICES, large_slices, mean_estimates, slice_names
from tiebreak.evaluate.variants import LabelledVotes, reliability
from tiebreak.stats.calibration_test import calibration_error, calibration_test
from tiebreak.stats.metrics import Array, Bootstrap, row_accuracy, row_log_loss, summarise


def calibration(votes: pa.Table, p_NC: Array, truth: LabelledVotes, bootstrap: Bootstrap) -> dict[str, Any]:
    """Metrics, calibration error, test and curves over all votes (votes.schema.SCHEMA), and of every slice and pair of models."""
    scored = [p_NC], truth.y_NC, bootstrap, truth.groups_N
    return {
        **{name: asdict(estimate) for name, estimate in summarise(*scored).items()},
        "ece": asdict(calibration_error(*scored)),
        "test": asdict(calibration_test(p_NC, truth.y_NC, truth.groups_N)),
        "curves": reliability(p_NC, truth.y_NC, truth.groups_N),
        "slices": _adjusted(list(_slices(votes, p_NC, truth, bootstrap))),
    }


def _slices(
    votes: pa.Table, p_NC: Array, truth: LabelledVotes, bootstrap: Bootstrap
) -> Iterator[dict[str, Any]]:
    """Each slice: votes, log loss, accuracy, confidence less accuracy, the gap in P(tie), the p-value of the test."""
    correct_N = row_accuracy(p_NC, truth.y_NC)
    columns = {
        "log_loss": row_log_loss(p_NC, truth.y_NC),
        "accuracy": correct_N,
        "overconfidence": p_NC.max(axis=1) - correct_N,
        "tie_gap": p_NC[:, 2] - truth.y_NC[:, 2],
    }
    for by, names_N in (*slice_names(votes), ("model pair", _model_pairs(votes))):
        for n, (name, rows) in enumerate(large_slices(names_N, truth.groups_N)):
            if n < MAX_SLICES and not rows.all():
                groups_N = truth.groups_N[rows]
                figures = mean_estimates(
                    {key: values[rows] for key, values in columns.items()}, groups_N, bootstrap, ["accuracy"]
                )
                test = calibration_test(p_NC[rows], truth.y_NC[rows], groups_N)
                yield {"by": by, "name": name, "rows": int(rows.sum()), **figures, "p": test.p}


def _model_pairs(votes: pa.Table) -> NDArray[Any]:
    """The two models of each vote in alphabetical order; "" where they are not known, or one model is on both sides."""
    pairs = zip(*(votes[f"model_{side}"].to_pylist() for side in "ab"), strict=True)
    return np.array([" and ".join(sorted((a, b))) if a and b and a != b else "" for a, b in pairs], dtype=str)


def _adjusted(slices: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The slices with p-values adjusted for their number by Holm's method (Scandinavian Journal of Statistics 6, 1979)."""
    tested = sorted((row for row in slices if row["p"] is not None), key=lambda row: float(row["p"]))
    adjusted = 0.0
    for n, row in enumerate(tested):
        adjusted = max(adjusted, min(1.0, (len(tested) - n) * row["p"]))
        row["p_adjusted"] = adjusted
    return [{"p_adjusted": None} | row for row in slices]
