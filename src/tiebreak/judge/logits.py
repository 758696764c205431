"""Raw logits of models: three numbers per row and order, in the order the answers were shown.

Dimension letters: N votes, O orders, C classes (a, b, tie).
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tiebreak.votes.schema import swap_answers

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


def by_vote(table: pa.Table) -> tuple[list[str], NDArray[np.float64]]:
    """The logits of one model with the swap undone.

    Returns the ids in order of first appearance, and z_NOC of shape (n, orders, 3) whose last axis is
    a, b, tie of the stored vote; the orders axis is sorted (as stored, swapped).
    Raises ValueError if a row and order appears twice, or the votes differ in the orders they have.
    """
    ids = table["id"].to_pylist()
    position = {vote: n for n, vote in enumerate(dict.fromkeys(ids))}
    order = table["order"].to_numpy()
    columns = [table[column].to_numpy() for column in ("z_first", "z_second", "z_tie")]
    z_RC = np.stack(columns, axis=1).astype(np.float64)
    orders = np.unique(order)
    z_NOC = np.full((len(position), len(orders), 3), np.nan)
    rows = np.array([position[vote] for vote in ids], dtype=np.int64)
    for o, value in enumerate(orders):
        mask = order == value
        z_NOC[rows[mask], o] = swap_answers(z_RC[mask]) if value == 1 else z_RC[mask]
    if len(ids) != len(position) * len(orders) or np.isnan(z_NOC).any():
        raise ValueError(f"{len(ids)} rows of logits for {len(position)} votes in {len(orders)} orders")
    return list(position), z_NOC


def softmax(z_xC: NDArray[np.floating]) -> NDArray[np.float64]:
    """Softmax over the last axis, in float64."""
    e_xC = np.exp(z_xC.astype(np.float64) - z_xC.max(axis=-1, keepdims=True))
    p_xC: NDArray[np.float64] = e_xC / e_xC.sum(axis=-1, keepdims=True)
    return p_xC


def mean_over_orders(z_NOC: NDArray[np.floating]) -> NDArray[np.float64]:
    """Probabilities (n, 3): the mean over orders of the softmax (swap test-time augmentation)."""
    p_NC: NDArray[np.float64] = softmax(z_NOC).mean(axis=1)
    return p_NC


def to_table(
    ids: Sequence[str],
    orders: Sequence[int],
    z_RC: NDArray[np.float32],
    split: Sequence[str],
    origin: Sequence[str],
    model: str,
    fold: int | None,
) -> pa.Table:
    """Logits (rows, 3) as a table in LOGITS_SCHEMA."""
    n = len(ids)
    columns = [ids, orders, split, origin, [model] * n, [fold] * n, z_RC[:, 0], z_RC[:, 1], z_RC[:, 2]]
    return pa.table(
        [pa.array(column, field.type) for column, field in zip(columns, LOGITS_SCHEMA, strict=True)],
        schema=LOGITS_SCHEMA,
    )
