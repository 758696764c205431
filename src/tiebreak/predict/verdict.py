"""From a model's logits to the probabilities that ship: both orders, calibration, a baseline, rules.

Every part treats the answers alike, so that swapping them swaps the probabilities to the last bit.

Dimension letters: N votes, O orders, C classes (a, b, tie).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tiebreak.data.orders import over_orders
from tiebreak.evaluate.calibration import Calibrator, from_json
from tiebreak.evaluate.rules import Rules
from tiebreak.predict import joined
from tiebreak.predict.joined import Joined
from tiebreak.predict.package import Package
from tiebreak.recipe import Tta

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Verdict:
    """How logits of votes become the shipped model's probabilities."""

    tta: Tta
    certain_from: float | None
    calibration: Calibrator
    rules: Rules | None
    joined: Joined | None = None

    @classmethod
    def of(cls, package: Package, folder: Path) -> Self:
        """The verdict of a model folder and its package. Raises TiebreakError where its baseline is damaged."""
        rules = None if package.rules is None else Rules.from_json(package.rules)
        return cls(
            package.tta,
            package.certain_from,
            from_json(package.calibration),
            rules,
            joined.read(package, folder),
        )

    def on(self, votes: pa.Table, z_NOC: Array) -> Array:
        """Probabilities (n, 3) of votes from their logits in both orders, the swap undone."""
        return self.finish(votes, over_orders(votes, z_NOC, self.tta, self.certain_from))

    def finish(self, votes: pa.Table, p_NC: Array) -> Array:
        """Calibration, then a blend with the baseline, then rules, on what the model says."""
        p_NC = self.blended(votes, self.calibration.predict_proba(p_NC))
        return p_NC if self.rules is None else self.rules.apply(votes, p_NC)

    def blended(self, votes: pa.Table, p_NC: Array) -> Array:
        """The judge's calibrated probabilities (n, 3) blended with the baseline's, where one ships."""
        return p_NC if self.joined is None else self.joined.blended(votes, p_NC)
