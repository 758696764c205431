"""What quantising costs: the change of logits against the stored model, by GPTQ and by rounding to nearest.

Dimension letters: R rows, C classes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tiebreak.model import classifier
from tiebreak.quantize import gptq, int8

Score = Callable[[classifier.Classifier], NDArray[np.float32]]


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


def logits_by_method(
    source: Path,
    scratch: Path,
    documents: Sequence[NDArray[np.int32]],
    score: Score,
    group: int = 128,
    device: str = "cpu",
) -> dict[str, NDArray[np.float32]]:
    """Logits (R, C) of the model in `source` as it is stored ("stored") and quantised ("gptq", "rtn").

    documents calibrate GPTQ; `score` gives the logits of rows of the caller's choice. The quantised folders
    stay in `scratch`.
    """
    logits = {"stored": score(classifier.load(source, device=device))}
    methods: tuple[gptq.Method, ...] = ("gptq", "rtn")
    for method in methods:
        gptq.quantize(source, scratch / method, documents, group, method)
        logits[method] = score(int8.load_classifier(scratch / method, device=device))
    return logits
