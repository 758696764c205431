"""What quantising costs: the change of logits against the stored model.

Dimension letters: R rows, C classes.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Change:
    """Absolute differences of logits, and the share of rows whose likeliest class differs."""

    max: float
    mean: float
    flipped: float


def logit_change(before_RC: NDArray[np.floating], after_RC: NDArray[np.floating]) -> Change:
    """The change from one model's logits to another's. Raises ValueError where there are no rows."""
    change_RC = np.abs(after_RC.astype(np.float64) - before_RC)
    flipped_R = after_RC.argmax(axis=1) != before_RC.argmax(axis=1)
    return Change(float(change_RC.max()), float(change_RC.mean()), float(flipped_R.mean()))
