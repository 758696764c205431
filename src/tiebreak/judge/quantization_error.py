"""Quantization error: the change of logits from the stored model.

Dimension letters: R rows, C classes.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class LogitChange:
    """Absolute differences of logits, and the share of rows whose likeliest class differs."""

    max: float
    mean: float
    flipped: float


def logit_change(before_RC: NDArray[np.floating], after_RC: NDArray[np.floating]) -> LogitChange:
    """Measure the change from one model's logits to another's. Raises ValueError where there are no rows."""
    change_RC = np.abs(after_RC.astype(np.float64) - before_RC)
    flipped_R = after_RC.argmax(axis=1) != before_RC.argmax(axis=1)
    return LogitChange(float(change_RC.max()), float(change_RC.mean()), float(flipped_R.mean()))
