"""Choice of the blend of a judge with a baseline, by nested cross-validation.

Dimension letters: N votes, M models (judge, baseline), C classes (a, b, tie).
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, clone

from tiebreak.stats.blend import PROMPTS_TO_FIT, Blend, LinearBlend, LogBlend, MatrixBlend
from tiebreak.stats.calibration import TemperatureScaling
from tiebreak.stats.metrics import Array, Bootstrap, Estimate, difference
from tiebreak.stats.nested_cv import Estimator, best_candidate, nested, out_of_fold, splits

BLENDS: dict[str, Blend] = {"linear": LinearBlend(), "log": LogBlend(), "matrix": MatrixBlend()}
"""Unfitted blends by their names in the recipe."""


class JudgeAlone(BaseEstimator):  # type: ignore[misc]
    """The judge without the baseline, with a temperature. Fitted: scaling_.

    Its temperature was fitted on these votes before. It is refitted in each fold, so that cross-validation charges it
    for a fitted parameter as it does the blends; otherwise few votes would always favour it.
    """

    def fit(self, x_NMC: Array, labels: ArrayLike) -> Self:
        self.scaling_ = TemperatureScaling().fit(x_NMC[:, 0], labels)
        return self

    def predict_proba(self, x_NMC: Array) -> Array:
        return self.scaling_.predict_proba(x_NMC[:, 0])


@dataclass(frozen=True)
class BlendChoice:
    """The chosen blend, fitted, or None to ship the judge alone.

    change: in log loss from the judge alone, by nested cross-validation; None where that was not run.
    """

    name: str = "none"
    blend: Blend | None = None
    change: Estimate | None = None


def choose_blend(x_NMC: Array, labels: ArrayLike, groups_N: NDArray[np.integer], method: str) -> BlendChoice:
    """Choose the blend of x (n, 2, 3): predictions of judge and baseline for votes that neither was trained on.

    method: one of BLENDS, "none", or "auto": the one that cross-validates best, if this choice, with the judge alone as a
    candidate, lowers the log loss in nested cross-validation by more than a standard error (a 68 % interval below 0): a
    blend of different models rarely harms, and few votes would show its gain with 95 %.
    """
    if method in BLENDS:
        return BlendChoice(method, clone(BLENDS[method]).fit(x_NMC, labels))
    if method == "none" or len(np.unique(groups_N)) < PROMPTS_TO_FIT:
        return BlendChoice()
    candidates: dict[str, Estimator] = {"none": JudgeAlone(), **BLENDS}
    chosen_NC = nested(candidates, x_NMC, labels, groups_N).predictions
    alone_NC = out_of_fold(JudgeAlone(), x_NMC, labels, splits(groups_N))
    change = difference([chosen_NC], [alone_NC], labels, Bootstrap(confidence=0.68), groups_N)
    name = best_candidate(candidates, x_NMC, labels, groups_N)
    if change.high is None or change.high >= 0 or name == "none":
        return BlendChoice(change=change)
    return BlendChoice(name, clone(BLENDS[name]).fit(x_NMC, labels), change)
