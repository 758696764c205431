"""Shift: votes that look unlike those a judge was trained on, and its calibration there.

Dimension letters: I pairs, N votes, C classes (a, b, tie).
"""

from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tiebreak.evaluate.bias import mean_estimates
from tiebreak.evaluate.variants import LabelledVotes
from tiebreak.stats.agreement import SHARE
from tiebreak.stats.calibration_test import calibration_test
from tiebreak.stats.metrics import MIN_GROUPS, Array, Bootstrap, Estimate, row_accuracy, row_log_loss

BEYOND = 0.95
"""Votes less usual than this share of the training votes are unusual."""


def shift(rank_N: Array, p_NC: Array, truth: LabelledVotes, bootstrap: Bootstrap) -> dict[str, Any]:
    """Figures on votes by the share (n,) of training votes that look more usual (baseline.training_features).

    rank: its mean, 0.5 without a shift, and the probability that a vote looks less usual than a training vote does. unusual: the
    share beyond BEYOND. usual and unusual votes each with accuracy, log loss, confidence less accuracy and the test of calibration;
    change: log loss on the unusual less that on the others, None for few prompts. holds: whether these votes look like the
    training's.
    """
    unusual_N = rank_N > BEYOND
    columns = np.column_stack([rank_N, unusual_N])
    rank, unusual = bootstrap.estimates(columns, truth.groups_N, bounds=[SHARE, SHARE])
    parts = {"usual": ~unusual_N, "unusual": unusual_N}
    return {
        "beyond": BEYOND,
        "rank": asdict(rank),
        "unusual": asdict(unusual),
        "parts": [
            {"name": name} | _scores(rows_N, p_NC, truth, bootstrap)
            for name, rows_N in parts.items()
            if rows_N.any()
        ],
        "change": _change(unusual_N, p_NC, truth, bootstrap),
        "holds": None if rank.low is None or unusual.low is None else not _is_shifted(rank, unusual),
    }


def _is_shifted(rank: Estimate, unusual: Estimate) -> bool:
    return (rank.low or 0) > 0.5 or (unusual.low or 0) > 1 - BEYOND


def _scores(
    rows_N: NDArray[np.bool_], p_NC: Array, truth: LabelledVotes, bootstrap: Bootstrap
) -> dict[str, Any]:
    p_RC, y_RC, groups_R = p_NC[rows_N], truth.y_NC[rows_N], truth.groups_N[rows_N]
    correct_R = row_accuracy(p_RC, y_RC)
    columns = {
        "log_loss": row_log_loss(p_RC, y_RC),
        "accuracy": correct_R,
        "overconfidence": p_RC.max(axis=1) - correct_R,
    }
    test = calibration_test(p_RC, y_RC, groups_R)
    return {"rows": len(p_RC), **mean_estimates(columns, groups_R, bootstrap, ["accuracy"]), "p": test.p}


def _change(
    unusual_N: NDArray[np.bool_], p_NC: Array, truth: LabelledVotes, bootstrap: Bootstrap
) -> dict[str, Any] | None:
    """The difference of two means over votes of the same prompts, which are resampled together."""
    if any(len(np.unique(truth.groups_N[rows_N])) < MIN_GROUPS for rows_N in (unusual_N, ~unusual_N)):
        return None
    loss_N = row_log_loss(p_NC, truth.y_NC)
    columns = np.column_stack([loss_N * unusual_N, unusual_N, loss_N * ~unusual_N, ~unusual_N])
    (change,) = bootstrap.estimates(
        columns,
        truth.groups_N,
        lambda means_SM: (means_SM[:, [0]] / means_SM[:, [1]]) - (means_SM[:, [2]] / means_SM[:, [3]]),
    )
    return asdict(change)
