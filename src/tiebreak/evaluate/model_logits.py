"""Logits of the models of each stage, read from the steps' artifacts, and their probabilities.

Dimension letters: N votes, O orders, C classes (a, b, tie).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tiebreak.errors import TiebreakError
from tiebreak.judge.logits import by_vote, mean_over_orders, softmax
from tiebreak.stats.calibration import Calibrator, from_json
from tiebreak.votes.schema import read_table

Array = NDArray[np.float64]


@dataclass(frozen=True)
class ModelLogits:
    """The logits of one model on the votes of one split, swap undone."""

    model: str
    fold: int | None  # the fold that the model held out; None after averaging
    split: str
    origin: str
    ids: list[str]
    z_NOC: Array
    calibrator: Calibrator | None = None
    calibrated_on: str = ""  # the split that the calibrator was fitted on, if known

    @property
    def orders(self) -> int:
        return int(self.z_NOC.shape[1])

    def probabilities(self, both_orders: bool, calibrated: bool) -> Array:
        """Probabilities (n, 3) of the stored order or the mean over both, optionally calibrated."""
        p_NC = mean_over_orders(self.z_NOC) if both_orders else softmax(self.z_NOC[:, 0])
        return self.calibrator.predict_proba(p_NC) if calibrated and self.calibrator else p_NC

    def aligned(self, ids: Sequence[str]) -> "ModelLogits":
        """Select exactly these votes, in this order. Raises TiebreakError if any is missing."""
        position = {vote: n for n, vote in enumerate(self.ids)}
        if missing := [vote for vote in ids if vote not in position]:
            raise TiebreakError(
                f"{self.model} (fold {self.fold}) scored {len(ids) - len(missing)} of {len(ids)} "
                f"{self.split} votes; {missing[0]!r} is missing, so its logits belong to other rows"
            )
        rows = [position[vote] for vote in ids]
        return replace(self, ids=list(ids), z_NOC=self.z_NOC[rows])


def read(folders: Sequence[Path], calibrations: Sequence[dict[str, Any]] = ()) -> list[ModelLogits]:
    """Read every model and split in the `logits.parquet` of these folders; shards of a model are joined.

    calibrations: of each folder's model, as in `Package.calibration`, if any; a student's also has `fitted_on`.
    """
    tables: dict[tuple[str, int | None, str, str], list[tuple[pa.Table, dict[str, Any]]]] = {}
    for folder, state in zip(folders, calibrations or [{}] * len(folders), strict=True):
        for key, table in _by_model(read_table(folder / "logits.parquet")):
            tables.setdefault(key, []).append((table, state))
    return [_model_logits(key, [table for table, _ in parts], parts[0][1]) for key, parts in tables.items()]


def of_split(scored: Sequence[ModelLogits], split: str) -> list[ModelLogits]:
    return [item for item in scored if item.split == split]


def _model_logits(
    key: tuple[str, int | None, str, str], parts: Sequence[pa.Table], calibration: dict[str, Any]
) -> ModelLogits:
    ids, z_NOC = by_vote(pa.concat_tables(parts))
    calibrator = from_json(calibration) if calibration else None
    return ModelLogits(*key, ids, z_NOC, calibrator, calibration.get("fitted_on", ""))


def _by_model(table: pa.Table) -> Iterator[tuple[tuple[str, int | None, str, str], pa.Table]]:
    keys = ["model", "fold", "split", "origin"]
    for key in table.group_by(keys, use_threads=False).aggregate([]).to_pylist():
        mask = pc.is_null(table["fold"]) if key["fold"] is None else pc.equal(table["fold"], key["fold"])
        for name in ("model", "split", "origin"):
            mask = pc.and_(mask, pc.equal(table[name], key[name]))
        yield (key["model"], key["fold"], key["split"], key["origin"]), table.filter(mask)
