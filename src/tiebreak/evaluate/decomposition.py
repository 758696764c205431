"""Decomposition of the Brier score: miscalibration - discrimination + uncertainty."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from sklearn.isotonic import IsotonicRegression

from tiebreak.stats.metrics import Array, targets


@dataclass(frozen=True)
class BrierParts:
    """Brier score = miscalibration - discrimination + uncertainty, exactly.

    miscalibration: gain from recalibrating each class monotonically. Fitted on the rows it is measured on, so biased
    upwards: above 0 even for perfect calibration.
    discrimination: gain of the recalibrated prediction over the class shares.
    uncertainty: the Brier score of the class shares.
    """

    miscalibration: float
    discrimination: float
    uncertainty: float


def brier_parts(p_NC: Array, labels: ArrayLike) -> BrierParts:
    """The CORP decomposition (Dimitriadis, Gneiting and Jordan 2021), summed over classes one against rest.

    Recalibration is isotonic regression of the outcome on the probability, so there are no bins to choose.
    """
    y_NC = targets(labels)
    recalibrated_NC = np.stack(
        [IsotonicRegression().fit_transform(p_N, y_N) for p_N, y_N in zip(p_NC.T, y_NC.T, strict=True)],
        axis=1,
    )
    score, recalibrated, shares = (
        float(((q_NC - y_NC) ** 2).sum(axis=1).mean()) for q_NC in (p_NC, recalibrated_NC, y_NC.mean(axis=0))
    )
    return BrierParts(score - recalibrated, shares - recalibrated, shares)
