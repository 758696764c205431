"""From a model's logits to the probabilities that ship: which votes both orders count for, calibration, rules.

Every part treats the answers alike, so that swapping them swaps the probabilities to the last bit.

Dimension letters: N votes, O orders, C classes (a, b, tie).
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tiebreak.data.orders import over_orders
from tiebreak.evaluate.calibration import Calibrator, from_json
from tiebreak.evaluate.rules import Rules
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

    @classmethod
    def of(cls, package: Package) -> Self:
        rules = None if package.rules is None else Rules.from_json(package.rules)
        return cls(package.tta, package.certain_from, from_json(package.calibration), rules)

    def on(self, votes: pa.Table, z_NOC: Array) -> Array:
        """Probabilities (n, 3) of votes from their logits in both orders, the swap undone."""
        return self.finish(votes, over_orders(votes, z_NOC, self.tta, self.certain_from))

    def finish(self, votes: pa.Table, p_NC: Array) -> Array:
        """Calibration, then rules, on what the model says."""
        p_NC = self.calibration.predict_proba(p_NC)
        return p_NC if self.rules is None else self.rules.apply(votes, p_NC)
