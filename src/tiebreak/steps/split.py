"""Step 2: folds stratified by label and grouped by prompt, and a lockbox.

Rows whose prompt is known elsewhere leave the training side: votes, extra votes and preference pairs whose
group is among the test pairs; extra votes and preference pairs whose group is among the votes.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tiebreak.errors import TiebreakError
from tiebreak.recipe import Slice, Split
from tiebreak.runtime import Runtime

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

VERSION = 1

_ROLES = ("votes", "extra", "preferences", "test")


class Settings(Slice):
    split: Split
    seed: int


def run(
    settings: Settings, inputs: Mapping[str, tuple[Path, ...]], output: Path, runtime: Runtime
) -> dict[str, Any]:
    """Write rows.parquet (data.votes.ROWS_SCHEMA) and, where there are any, preferences.parquet (SCHEMA).

    Metrics: votes, groups, sizes of folds and lockbox, how uneven the folds are, what was dropped because it
    overlaps. Raises TiebreakError if a fold or the lockbox would be empty.
    """
    from tiebreak.data import folds, groups
    from tiebreak.data.streaming import writer
    from tiebreak.data.votes import EXTRA, LOCKBOX, ROWS_SCHEMA, SCHEMA

    files = {role: inputs[role][0] / "votes.parquet" for role in _ROLES if role in inputs}
    group_of = groups.of_files(files)
    tested, voted = set(group_of.get("test", ())), set(group_of["votes"])
    split = settings.split
    fold_of = {g: folds.fold_of(g, split.count, split.lockbox_share, settings.seed) for g in voted - tested}
    metrics: dict[str, Any] = {"groups": len(fold_of)}
    ids: set[str] = set()
    with writer(output / "rows.parquet", ROWS_SCHEMA) as rows:
        p_FC = {fold: _nothing() for fold in (LOCKBOX, *range(split.count))}
        for batch in _placed(files["votes"], group_of["votes"], fold_of):
            ids.update(batch["id"].to_pylist())
            _tally(batch, p_FC)
            rows.write_batch(batch)
        metrics |= _evenness(p_FC, split) | _dropped("votes", group_of, fold_of)
        if "extra" in files:
            joining = dict.fromkeys(set(group_of["extra"]) - voted - tested, EXTRA)
            for batch in _placed(files["extra"], group_of["extra"], joining):
                rows.write_batch(_with_new_ids(batch, ids))
            metrics |= _dropped("extra", group_of, joining)
    if "preferences" in files:
        joining = dict.fromkeys(set(group_of["preferences"]) - voted - tested, EXTRA)
        with writer(output / "preferences.parquet", SCHEMA) as preferences:
            for batch in _placed(files["preferences"], group_of["preferences"], joining):
                preferences.write_batch(batch.select(SCHEMA.names))
        metrics |= _dropped("preferences", group_of, joining)
    return metrics


def _placed(path: Path, groups: Sequence[str], fold_of: Mapping[str, int]) -> "Iterator[pa.RecordBatch]":
    """The rows of a file with their group and fold; rows whose group has no fold are left out."""
    import pyarrow as pa

    from tiebreak.data.streaming import batches
    from tiebreak.data.votes import ROWS_SCHEMA

    start = 0
    for batch in batches(path):
        own = groups[start : start + batch.num_rows]
        start += batch.num_rows
        columns = [*batch.columns, pa.array(own), pa.array([fold_of.get(group) for group in own], pa.int8())]
        placed = pa.RecordBatch.from_arrays(columns, schema=ROWS_SCHEMA)
        yield placed.filter(placed["fold"].is_valid())


def _with_new_ids(batch: "pa.RecordBatch", taken: set[str]) -> "pa.RecordBatch":
    """Extra votes whose ids differ from all in `taken`, which grows by them."""
    import pyarrow as pa

    ids = []
    for name in batch["id"].to_pylist():
        while name in taken:
            name = f"extra/{name}"
        taken.add(name)
        ids.append(name)
    return batch.set_column(0, batch.schema.field(0), pa.array(ids, pa.string()))


def _nothing() -> "NDArray[np.float64]":
    import numpy as np

    return np.zeros(3)


def _tally(batch: "pa.RecordBatch", p_FC: "dict[int, NDArray[np.float64]]") -> None:
    """Add the label probabilities of the batch to those of their folds."""
    import numpy as np

    p_NC = np.stack([batch[name].to_numpy() for name in ("p_a", "p_b", "p_tie")], axis=1)
    for fold, p_C in p_FC.items():
        p_C += p_NC[batch["fold"].to_numpy() == fold].sum(axis=0)


def _evenness(p_FC: "dict[int, NDArray[np.float64]]", split: Split) -> dict[str, Any]:
    import numpy as np

    from tiebreak.data import folds
    from tiebreak.data.votes import LOCKBOX

    votes = {fold: round(p_C.sum()) for fold, p_C in p_FC.items()}
    lockbox = votes.pop(LOCKBOX)
    if empty := [fold for fold, count in votes.items() if not count]:
        raise TiebreakError(
            f"no votes fall into the folds {empty}: {sum(votes.values())} votes are too few, or too much "
            f"alike, for split.count={split.count}. Give more votes or set fewer folds"
        )
    if split.lockbox_share and not lockbox:
        raise TiebreakError(
            f"no votes fall into the lockbox: raise split.lockbox_share={split.lockbox_share}, or give more "
            f"than {sum(votes.values())} votes"
        )
    size, label = folds.imbalance(np.stack([p_FC[fold] for fold in votes]))
    return {
        "votes": sum(votes.values()) + lockbox,
        "lockbox": lockbox,
        **{f"fold{fold}": count for fold, count in votes.items()},
        "size_imbalance": size,
        "label_imbalance": label,
    }


def _dropped(role: str, group_of: Mapping[str, Sequence[str]], kept: Mapping[str, int]) -> dict[str, int]:
    """How many rows of a file went because their prompt is among the test pairs, or among the votes."""
    gone = [group for group in group_of[role] if group not in kept]
    tested = set(group_of.get("test", ()))
    in_test = sum(group in tested for group in gone)
    counts = {f"{role}_dropped_in_test": in_test}
    if role != "votes":
        counts |= {role: len(group_of[role]) - len(gone), f"{role}_dropped_in_votes": len(gone) - in_test}
    return counts
