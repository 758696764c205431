"""Blend of a judge with a baseline that ships beside it.

Dimension letters: N votes, C classes (a, b, tie).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tiebreak.judge.package import Package
from tiebreak.stats.blend import Blend, from_json

if TYPE_CHECKING:
    from tiebreak.baseline.model import Baseline

Array = NDArray[np.float64]


@dataclass(frozen=True)
class BaselineBlend:
    """A baseline, and a blend of a judge's calibrated probabilities with the baseline's."""

    baseline: "Baseline"
    blend: Blend

    def apply(self, votes: pa.Table, p_NC: Array) -> Array:
        """Blended probabilities (n, 3) from the judge's; swapped answers swap them to the last bit."""
        return self.blend.predict_proba(np.stack([p_NC, self.baseline.predict_proba(votes)], axis=1))


def read(package: Package, folder: Path) -> BaselineBlend | None:
    """Read the baseline and blend of a model folder; None where it ships none.

    Raises TiebreakError where the baseline is missing or damaged.
    """
    if package.blend is None:
        return None
    from tiebreak.baseline import files  # the part of loading that most models do without

    return BaselineBlend(files.read(folder), from_json(package.blend))
