"""Postprocessing of logits to shipped probabilities: TTA, calibration, baseline blend, rules.

Every part is symmetric in the answers, so that swapping them swaps the probabilities to the last bit.

Dimension letters: N votes, O orders, C classes (a, b, tie).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tiebreak.errors import TiebreakError
from tiebreak.judge import baseline_blend
from tiebreak.judge.baseline_blend import BaselineBlend
from tiebreak.judge.judgements import DecidedBy
from tiebreak.judge.package import Package
from tiebreak.judge.rules import Rules
from tiebreak.judge.tta import tta_probabilities
from tiebreak.recipe.schema import Tta
from tiebreak.stats.calibration import Calibrator, from_json

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Postprocessing:
    """The steps from logits of votes to the shipped model's probabilities."""

    tta: Tta
    certain_from: float | None
    calibration: Calibrator
    rules: Rules | None
    baseline_blend: BaselineBlend | None = None

    @classmethod
    def from_package(cls, package: Package, folder: Path) -> Self:
        """The postprocessing of a model folder and its package. Raises TiebreakError where its baseline is damaged."""
        rules = None if package.rules is None else Rules.from_json(package.rules)
        return cls(
            package.tta,
            package.certain_from,
            from_json(package.calibration),
            rules,
            baseline_blend.read(package, folder),
        )

    def to_probabilities(self, votes: pa.Table, z_NOC: Array) -> Array:
        """Probabilities (n, 3) of votes from their logits in both orders, the swap undone."""
        return self.postprocess(votes, tta_probabilities(votes, z_NOC, self.tta, self.certain_from))

    def postprocess(self, votes: pa.Table, p_NC: Array) -> Array:
        """Calibrate the model's probabilities (n, 3), blend them with the baseline's and apply the rules."""
        p_NC = self.apply_blend(votes, self.calibration.predict_proba(p_NC))
        return p_NC if self.rules is None else self.rules.apply(votes, p_NC)

    def apply_blend(self, votes: pa.Table, p_NC: Array) -> Array:
        """The judge's calibrated probabilities (n, 3) blended with the baseline's, where one ships."""
        return p_NC if self.baseline_blend is None else self.baseline_blend.apply(votes, p_NC)

    def decided_by(self, votes: pa.Table) -> list[DecidedBy]:
        """What has the last word on each vote's probabilities: the rules where they apply, else the model or its blend."""
        otherwise: DecidedBy = "model" if self.baseline_blend is None else "blend"
        if self.rules is None:
            return [otherwise] * len(votes)
        return ["rule" if applies else otherwise for applies in self.rules.applies(votes).tolist()]


def require_probabilities(p_NC: NDArray[np.float64]) -> NDArray[np.float64]:
    """These probabilities (n, 3). Raises TiebreakError if any are not finite, not between 0 and 1, or do not sum to one."""
    wrong_N = ~((p_NC >= 0).all(axis=1) & (np.abs(p_NC.sum(axis=1) - 1) < 1e-6))
    if wrong_N.any():
        raise TiebreakError(
            f"the model gives no probabilities for {wrong_N.sum()} of {len(p_NC)} pairs, such as "
            f"{p_NC[wrong_N][0].tolist()}: its weights or its tiebreak.json are damaged; fetch or make it again"
        )
    return p_NC
