"""The schema of votes, which readers produce and every step consumes.

A vote is a prompt, two answers (each a list of turns) and three probabilities; a hard label is a
probability of one. Unlabelled pairs carry nulls there. A null turn is an answer that was never given. The
weight is that of the vote in training; null is 1. Votes of one session are never split. Tags, such as `language: German`,
name what the report looks at apart.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import ArrayLike, NDArray

from tiebreak.errors import TiebreakError
from tiebreak.output import replacing
from tiebreak.votes.parquet import opened

Number = TypeVar("Number", bound=np.number)

LABELS = ("a", "b", "tie")
"""The order of classes everywhere: logits, probabilities, columns."""

SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("prompt", pa.list_(pa.string())),
        ("response_a", pa.list_(pa.string())),
        ("response_b", pa.list_(pa.string())),
        ("model_a", pa.string()),
        ("model_b", pa.string()),
        ("p_a", pa.float32()),
        ("p_b", pa.float32()),
        ("p_tie", pa.float32()),
        ("weight", pa.float32()),
        ("session", pa.string()),
        ("tags", pa.list_(pa.string())),
    ]
)

LOCKBOX = -1
"""The fold of rows that no step trains, calibrates or selects on."""

CALIBRATION = -4
"""The fold of rows that no model trains on: calibrators are fitted and methods chosen on it."""

EXTRA = -2
"""The fold of rows that are in every training split and in no other, and of pairs without votes."""

ROWS_SCHEMA = SCHEMA.append(pa.field("group", pa.string())).append(pa.field("fold", pa.int8()))
"""The output of step 2: votes with the group of their prompt and their fold."""


def probabilities(votes: pa.Table | pa.RecordBatch) -> NDArray[np.float64]:
    """The columns p_a, p_b and p_tie as (n, 3); NaN where a vote has no label."""
    columns = [votes[f"p_{label}"].to_numpy(zero_copy_only=False) for label in LABELS]
    return np.stack(columns, axis=1).astype(np.float64)


def probability_columns(p_NC: NDArray[np.floating]) -> dict[str, pa.Array]:
    """Probabilities (n, 3) as the columns p_a, p_b and p_tie."""
    return {f"p_{label}": pa.array(p_NC[:, c]) for c, label in enumerate(LABELS)}


def swap_answers(x_xC: NDArray[Number], where_x: ArrayLike = True) -> NDArray[Number]:
    """Exchange the classes a and b, (..., 3) -> (..., 3), everywhere or where a mask (...) says. Its own inverse."""
    return np.where(np.asarray(where_x)[..., None], x_xC[..., [1, 0, 2]], x_xC)


def weights(votes: pa.Table) -> NDArray[np.float64]:
    """The weight of each vote in training (n,). Raises TiebreakError if there are votes and all have the weight 0."""
    weights_N: NDArray[np.float64] = votes["weight"].fill_null(1.0).to_numpy().astype(np.float64)
    if len(weights_N) and not weights_N.any():
        raise TiebreakError(
            f"all {len(weights_N)} votes to learn from have the weight 0; correct their column weight"
        )
    return weights_N


def rows_of(table: pa.Table, ids: Sequence[str]) -> pa.Table:
    """The rows of these ids, in this order."""
    position = {vote: n for n, vote in enumerate(table["id"].to_pylist())}
    return table.take([position[vote] for vote in ids])


def read_table(path: Path) -> pa.Table:
    """Votes from a Parquet file that this project wrote."""
    return pq.read_table(opened(path))


def write_table(table: pa.Table, path: Path) -> None:
    """Write Parquet compressed with zstd, atomically."""
    with replacing(path) as file:
        pq.write_table(table, file, compression="zstd")


def table_of(votes: Iterable[Mapping[str, Any]]) -> pa.Table:
    """A table in SCHEMA from dicts; missing columns are null."""
    return pa.Table.from_pylist([dict(vote) for vote in votes], schema=SCHEMA)
