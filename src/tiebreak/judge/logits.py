"""Logits of models: three numbers per vote and order, of a, b and tie of the stored vote.

On disk, rows hold them in the order that the answers were shown; in memory the swap is undone.

Dimension letters: N votes, O orders, R rows (a vote in one order), C classes (a, b, tie).
"""

from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tiebreak.errors import TiebreakError
from tiebreak.stats.calibration import Calibrator, from_json
from tiebreak.votes.schema import read_table, swap_answers

Array = NDArray[np.float64]

LOGITS_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("order", pa.int8()),  # 0: A shown first, as stored; 1: B shown first
        ("split", pa.string()),  # train, held_out, calibration, lockbox or unlabelled
        ("origin", pa.string()),  # in_sample, through_teachers or out_of_fold: see splits.tag_splits
        ("model", pa.string()),  # the teacher's name, or "student"
        ("fold", pa.int8()),  # the fold that the model held out; null for an averaged model
        ("z_first", pa.float32()),
        ("z_second", pa.float32()),
        ("z_tie", pa.float32()),
    ]
)


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

    def among(self, ids: Container[str]) -> "ModelLogits":
        """Select the votes that are among `ids`, in the order they have."""
        return self.aligned([vote for vote in self.ids if vote in ids])


def of_split(scored: Sequence[ModelLogits], split: str) -> list[ModelLogits]:
    return [item for item in scored if item.split == split]


def pool(scored: Sequence[ModelLogits]) -> ModelLogits:
    """The logits of several folds' models on different votes as those of one, named as the first.

    Raises ValueError if a vote was scored twice.
    """
    ids = [vote for item in scored for vote in item.ids]
    if len(set(ids)) < len(ids):
        raise ValueError(f"{len(ids)} logits of {len(set(ids))} votes: some were scored twice")
    return replace(scored[0], fold=None, ids=ids, z_NOC=np.concatenate([item.z_NOC for item in scored]))


def read(folders: Sequence[Path], calibration: dict[str, Any] | None = None) -> list[ModelLogits]:
    """Read every model and split in the `logits.parquet` of these folders; shards of a model are joined.

    calibration: of the folders' model, as in `Package.calibration`, if any; a student's also has `fitted_on`.
    """
    tables = [read_table(folder / "logits.parquet") for folder in folders]
    return list(from_table(pa.concat_tables(tables), calibration)) if tables else []


def from_table(table: pa.Table, calibration: dict[str, Any] | None = None) -> Iterator[ModelLogits]:
    """The logits of every model and split of a table in LOGITS_SCHEMA, in the order they first appear.

    Raises ValueError if a row and order appears twice, or the votes of one differ in the orders they have.
    """
    calibrator = from_json(calibration) if calibration else None
    fitted_on = calibration.get("fitted_on", "") if calibration else ""
    columns = [(name, "list") for name in ("id", "order", "z_first", "z_second", "z_tie")]
    keys = ["model", "fold", "split", "origin"]
    groups = table.group_by(keys, use_threads=False).aggregate(columns)
    for n, key in enumerate(groups.select(keys).to_pylist()):
        id_R, *numbers = (groups[f"{name}_list"][n].values for name, _ in columns)
        order_R, *z = (column.to_numpy() for column in numbers)
        ids, z_NOC = _by_vote(id_R.to_pylist(), order_R, np.stack(z, axis=1).astype(np.float64))
        yield ModelLogits(**key, ids=ids, z_NOC=z_NOC, calibrator=calibrator, calibrated_on=fitted_on)


def to_table(votes: pa.Table, z_NOC: NDArray[np.floating], model: str, fold: int | None) -> pa.Table:
    """Logits in LOGITS_SCHEMA of votes, which have the columns of splits.tag_splits."""
    count, orders, _ = z_NOC.shape
    z_RC = swap_answers(z_NOC, np.arange(orders) == 1).reshape(-1, 3).astype(np.float32)
    rows = votes.select(["id", "split", "origin"]).take(np.repeat(np.arange(count), orders))
    columns = {name: rows[name] for name in rows.column_names}
    columns |= {"order": np.tile(np.arange(orders), count), "model": [model] * len(rows)}
    columns |= {
        "fold": [fold] * len(rows),
        "z_first": z_RC[:, 0],
        "z_second": z_RC[:, 1],
        "z_tie": z_RC[:, 2],
    }
    return pa.table(columns, schema=LOGITS_SCHEMA)


def softmax(z_xC: NDArray[np.floating]) -> Array:
    """Softmax over the last axis, in float64."""
    e_xC = np.exp(z_xC.astype(np.float64) - z_xC.max(axis=-1, keepdims=True))
    p_xC: Array = e_xC / e_xC.sum(axis=-1, keepdims=True)
    return p_xC


def mean_over_orders(z_NOC: NDArray[np.floating]) -> Array:
    """Probabilities (n, 3): the mean over orders of the softmax (swap test-time augmentation)."""
    p_NC: Array = softmax(z_NOC).mean(axis=1)
    return p_NC


def _by_vote(ids: list[str], order_R: NDArray[np.integer], z_RC: Array) -> tuple[list[str], Array]:
    """The ids in order of first appearance, and z_NOC with the swap undone; the orders are sorted."""
    position = {vote: n for n, vote in enumerate(dict.fromkeys(ids))}
    orders, at_R = np.unique(order_R, return_inverse=True)
    z_NOC = np.full((len(position), len(orders), 3), np.nan)
    z_NOC[[position[vote] for vote in ids], at_R] = swap_answers(z_RC, order_R == 1)
    if len(ids) != len(position) * len(orders) or np.isnan(z_NOC).any():
        raise ValueError(f"{len(ids)} rows of logits for {len(position)} votes in {len(orders)} orders")
    return list(position), z_NOC
