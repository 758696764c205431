"""A judge and a baseline as one predictor: what both say of a vote, blended.

Dimension letters: N votes, C classes (a, b, tie).
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tiebreak.baseline import files
from tiebreak.baseline.model import Baseline
from tiebreak.evaluate.blend import Blend, from_json
from tiebreak.predict.package import Package

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Joined:
    """A baseline, and a blend of a judge's calibrated probabilities with the baseline's."""

    baseline: Baseline
    blend: Blend

    def blended(self, votes: pa.Table, p_NC: Array) -> Array:
        """Probabilities (n, 3) from the judge's; exchanged answers exchange them to the last bit."""
        return self.blend.predict_proba(np.stack([p_NC, self.baseline.predict_proba(votes)], axis=1))


def read(package: Package, folder: Path) -> Joined | None:
    """What a model folder ships beside its weights; None where it ships no baseline.

    Raises TiebreakError where the baseline is not there, damaged or another one.
    """
    if package.blend is None:
        return None
    return Joined(files.read(folder, package.blend["sha256"]), from_json(package.blend))
