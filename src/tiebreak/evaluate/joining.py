"""Whether a judge and a baseline are worth shipping together, and how they are blended.

Dimension letters: N votes, M models (judge, baseline), C classes (a, b, tie).
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, clone

from tiebreak.evaluate.blend import PROMPTS_TO_FIT, Blend, LinearBlend, LogBlend, MatrixBlend
from tiebreak.evaluate.calibration import TemperatureScaling
from tiebreak.evaluate.metrics import Array, Bootstrap, Estimate, difference
from tiebreak.evaluate.selection import Estimator, best, nested, out_of_fold, splits

BLENDS: dict[str, Blend] = {"linear": LinearBlend(), "log": LogBlend(), "matrix": MatrixBlend()}
"""By their names in the recipe, not fitted."""


class Alone(BaseEstimator):  # type: ignore[misc]
    """The first model by itself, with a temperature. Fitted: scaling_.

    Its temperature was fitted on these votes before; fitted anew without those that are scored, it costs in
    cross-validation what a blend's weights cost there. Otherwise few votes would always speak for it.
    """

    def fit(self, x_NMC: Array, labels: ArrayLike) -> Self:
        self.scaling_ = TemperatureScaling().fit(x_NMC[:, 0], labels)
        return self

    def predict_proba(self, x_NMC: Array) -> Array:
        return self.scaling_.predict_proba(x_NMC[:, 0])


@dataclass(frozen=True)
class Joining:
    """A fitted blend by its name, or None to ship the judge alone; and the change in log loss from the judge alone
    that nested cross-validation found, or None where it was not asked.
    """

    name: str = "none"
    blend: Blend | None = None
    change: Estimate | None = None


def join(x_NMC: Array, labels: ArrayLike, groups_N: NDArray[np.integer], wanted: str) -> Joining:
    """The blend of x (n, 2, 3), what judge and baseline say of votes that neither has learned from.

    wanted: one of BLENDS, "none", or "auto": the one that cross-validates best, if choosing so by nested
    cross-validation, shipping alone among the choices, lowers the log loss by more than a standard error (a 68 %
    interval below 0): a blend of unlike models rarely harms, and few votes would show its gain with 95 %.
    """
    if wanted in BLENDS:
        return Joining(wanted, clone(BLENDS[wanted]).fit(x_NMC, labels))
    if wanted == "none" or len(np.unique(groups_N)) < PROMPTS_TO_FIT:
        return Joining()
    ways: dict[str, Estimator] = {"none": Alone(), **BLENDS}
    chosen_NC = nested(ways, x_NMC, labels, groups_N).predictions
    alone_NC = out_of_fold(Alone(), x_NMC, labels, splits(groups_N))
    change = difference([chosen_NC], [alone_NC], labels, Bootstrap(confidence=0.68), groups_N)
    name = best(ways, x_NMC, labels, groups_N)
    if change.high is None or change.high >= 0 or name == "none":
        return Joining(change=change)
    return Joining(name, clone(BLENDS[name]).fit(x_NMC, labels), change)
