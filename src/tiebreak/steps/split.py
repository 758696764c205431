"""Step 2: folds that keep the votes of a prompt together, a lockbox and a calibration side.

Rows whose prompt (or another of its group over all files, see data.groups) is known elsewhere leave the
training side: all that are among the test pairs, and all but the votes themselves that are among the votes.
Where they are kept (drop_overlaps), they are counted all the same.
"""

import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import compress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tiebreak.errors import TiebreakError
from tiebreak.recipe import ROLES, Slice, Split
from tiebreak.runtime import Runtime

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    from tiebreak.data.groups import Prompts

VERSION = 7

log = logging.getLogger(__name__)


class Settings(Slice):
    split: Split
    seed: int


def run(
    settings: Settings, inputs: Mapping[str, tuple[Path, ...]], output: Path, runtime: Runtime
) -> dict[str, Any]:
    """Write rows.parquet and, where there are any, unlabelled.parquet (both data.votes.ROWS_SCHEMA; ids are
    unique over the two) and preferences.parquet (SCHEMA).

    Metrics: votes, groups, sizes of folds, lockbox and calibration side, how uneven the folds are, what was dropped because it
    overlaps. Raises TiebreakError if any of them would be empty, or all votes are ties; sides that are too small are
    warned of.
    """
    from tiebreak.data import groups
    from tiebreak.data.streaming import writer
    from tiebreak.data.votes import ROWS_SCHEMA, SCHEMA

    files: dict[str, Path] = {role: inputs[role][0] / "votes.parquet" for role in ROLES if role in inputs}
    prompts = groups.read(files)
    group_of = prompts.groups("votes")
    folds = _folds(group_of, settings)
    metrics: dict[str, Any] = {}
    gone = _overlaps(prompts, "votes", settings.split, metrics)
    ids: set[str] = set()
    with writer(output / "rows.parquet", ROWS_SCHEMA) as rows:
        p_FC = _nothing(settings.split)
        for batch in _placed(files["votes"], group_of, folds, gone):
            _tally(batch, p_FC)
            rows.write_batch(_with_new_ids(batch, ids, "votes"))
        metrics |= _evenness(p_FC, settings.split) | _sizes(group_of, gone)
        _warn(p_FC, _prompts(group_of, folds, gone), settings.split)
        for batch in _joining("extra", files, prompts, settings.split, metrics):
            rows.write_batch(_with_new_ids(batch, ids, "extra"))
    if "unlabelled" in files:
        with writer(output / "unlabelled.parquet", ROWS_SCHEMA) as unlabelled:
            for batch in _joining("unlabelled", files, prompts, settings.split, metrics):
                unlabelled.write_batch(_with_new_ids(batch, ids, "unlabelled"))
    if "preferences" in files:
        with writer(output / "preferences.parquet", SCHEMA) as preferences:
            for batch in _joining("preferences", files, prompts, settings.split, metrics):
                preferences.write_batch(batch.select(SCHEMA.names))
    return metrics


def _sizes(group_of: Sequence[str], gone: "NDArray[np.bool_]") -> dict[str, int]:
    sizes = Counter(compress(group_of, ~gone))
    return {"groups": len(sizes), "largest_group": max(sizes.values(), default=0)}


def _prompts(group_of: Sequence[str], folds: Sequence[int], gone: "NDArray[np.bool_]") -> Counter[int]:
    """Groups in each fold and side."""
    return Counter(fold for _, fold in set(compress(zip(group_of, folds, strict=True), ~gone)))


def _warn(p_FC: "dict[int, NDArray[np.float64]]", prompts: Mapping[int, int], split: Split) -> None:
    """Say what the votes, the lockbox and the calibration side are too few or too much alike for.

    Raises TiebreakError where all votes are ties.
    """
    from tiebreak.data import enough
    from tiebreak.data.votes import CALIBRATION, LOCKBOX
    from tiebreak.evaluate import power

    labels = enough.label_sums(p_C[None] for p_C in p_FC.values())
    for notice in enough.notices(labels):
        if enough.are_ties(labels):
            raise TiebreakError(notice)
        log.warning("%s", notice)
    sizes = {fold: round(p_C.sum()) for fold, p_C in p_FC.items()}
    sides = power.shortfalls(split, sum(sizes.values()), sizes[LOCKBOX], prompts[LOCKBOX], sizes[CALIBRATION])
    for side, notice in sides:
        log.warning("%s: %s", side, notice)


def _folds(group_of: Sequence[str], settings: Settings) -> list[int]:
    from tiebreak.data.folds import fold_of

    split = settings.split
    shares = split.lockbox_share, settings.seed, split.calibration_share
    fold = {group: fold_of(group, split.count, *shares) for group in set(group_of)}
    return [fold[group] for group in group_of]


def _overlaps(prompts: "Prompts", role: str, split: Split, metrics: dict[str, Any]) -> "NDArray[np.bool_]":
    """Which rows of a file go, because they are known from the test pairs or the votes; counted in the metrics."""
    import numpy as np

    gone = np.zeros(len(prompts.rows[role]), dtype=bool)
    for other in ("test", "votes"):
        if other in prompts.rows and other != role:
            known = prompts.also_in(role, other) & ~gone
            metrics[f"{role}_{'dropped' if split.drop_overlaps else 'kept'}_in_{other}"] = int(known.sum())
            gone |= known
    return gone & split.drop_overlaps


def _joining(
    role: str, files: Mapping[str, Path], prompts: "Prompts", split: Split, metrics: dict[str, Any]
) -> "Iterator[pa.RecordBatch]":
    """What joins every training side from a file, if it is there."""
    from tiebreak.data.votes import EXTRA

    if role not in files:
        return
    gone = _overlaps(prompts, role, split, metrics)
    metrics[role] = int((~gone).sum())
    yield from _placed(files[role], prompts.groups(role), [EXTRA] * len(gone), gone)


def _placed(
    path: Path, group_of: Sequence[str], folds: Sequence[int], gone: "NDArray[np.bool_]"
) -> "Iterator[pa.RecordBatch]":
    """The rows of a file with their group and fold, without those that are gone."""
    import pyarrow as pa

    from tiebreak.data.streaming import batches
    from tiebreak.data.votes import ROWS_SCHEMA

    start = 0
    for batch in batches(path):
        rows = slice(start, start + batch.num_rows)
        start = rows.stop
        columns = [*batch.columns, pa.array(group_of[rows], pa.string()), pa.array(folds[rows], pa.int8())]
        placed = pa.RecordBatch.from_arrays(columns, schema=ROWS_SCHEMA)
        yield placed.filter(pa.array(~gone[rows]))


def _with_new_ids(batch: "pa.RecordBatch", taken: set[str], role: str) -> "pa.RecordBatch":
    """The rows with ids that differ from all in `taken`, which grows by them; the role goes in front."""
    import pyarrow as pa

    ids = []
    for name in batch["id"].to_pylist():
        while name in taken:
            name = f"{role}/{name}"
        taken.add(name)
        ids.append(name)
    return batch.set_column(0, batch.schema.field(0), pa.array(ids, pa.string()))


def _nothing(split: Split) -> "dict[int, NDArray[np.float64]]":
    import numpy as np

    from tiebreak.data.votes import CALIBRATION, LOCKBOX

    return {fold: np.zeros(3) for fold in (LOCKBOX, CALIBRATION, *range(split.count))}


def _tally(batch: "pa.RecordBatch", p_FC: "dict[int, NDArray[np.float64]]") -> None:
    """Add the label probabilities of the batch to those of their folds."""
    from tiebreak.data.votes import probabilities

    p_NC = probabilities(batch)
    for fold, p_C in p_FC.items():
        p_C += p_NC[batch["fold"].to_numpy() == fold].sum(axis=0)


def _evenness(p_FC: "dict[int, NDArray[np.float64]]", split: Split) -> dict[str, Any]:
    """Sizes of lockbox, calibration side and folds, and how uneven these are. Raises TiebreakError where one is empty."""
    import numpy as np

    from tiebreak.data.folds import imbalance
    from tiebreak.data.votes import CALIBRATION, LOCKBOX

    votes = {fold: round(p_C.sum()) for fold, p_C in p_FC.items()}
    aside = {"lockbox": votes.pop(LOCKBOX), "calibration": votes.pop(CALIBRATION)}
    if empty := [fold for fold, count in votes.items() if not count]:
        raise TiebreakError(
            f"no votes fall into the folds {empty}: {sum(votes.values())} votes are too few, or too much "
            f"alike, for split.count={split.count}. Give more votes or set fewer folds"
        )
    for name, share in (("lockbox", split.lockbox_share), ("calibration", split.calibration_share)):
        if share and not aside[name]:
            raise TiebreakError(
                f"no votes fall into the {name} side: raise split.{name}_share={share}, or give more "
                f"than {sum(votes.values())} votes"
            )
    size, label = imbalance(np.stack([p_FC[fold] for fold in votes]))
    return {
        "votes": sum(votes.values()) + sum(aside.values()),
        **aside,
        **{f"fold{fold}": count for fold, count in votes.items()},
        "size_imbalance": size,
        "label_imbalance": label,
    }
