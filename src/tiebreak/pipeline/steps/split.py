"""Step 2: folds grouped by prompt, a lockbox and a calibration side.

Rows whose prompt (or a near duplicate, see votes.near_duplicates) occurs in another file leave the training side:
all rows that overlap with the test pairs, and all rows other than votes that overlap with the votes. If they are kept
(drop_overlaps off), they are still counted.
"""

import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import compress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tiebreak.errors import TiebreakError
from tiebreak.pipeline.step import Step
from tiebreak.recipe.schema import Split
from tiebreak.recipe.values import ROLES, Slice
from tiebreak.runtime import Runtime

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    from tiebreak.votes.near_duplicates import Prompts

VERSION = 9

log = logging.getLogger(__name__)


class Settings(Slice):
    split: Split
    seed: int


def run(
    settings: Settings, inputs: Mapping[str, tuple[Path, ...]], output: Path, runtime: Runtime
) -> dict[str, Any]:
    """Write rows.parquet and, where there are any, unlabelled.parquet (both votes.schema.ROWS_SCHEMA; ids are
    unique over the two) and preferences.parquet (SCHEMA).

    Metrics: votes, groups, sizes of folds, lockbox and calibration side, imbalance of the folds, rows dropped as
    overlaps. Raises TiebreakError if any of them would be empty, or all votes are ties; sides that are too small are
    warned of.
    """
    from tiebreak.votes import near_duplicates
    from tiebreak.votes.parquet import writer
    from tiebreak.votes.schema import ROWS_SCHEMA, SCHEMA

    files: dict[str, Path] = {role: inputs[role][0] / "votes.parquet" for role in ROLES if role in inputs}
    prompts = near_duplicates.read(files)
    group_of = prompts.groups("votes")
    folds = _folds(group_of, settings)
    metrics: dict[str, Any] = {}
    dropped = _overlaps(prompts, "votes", settings.split, metrics)
    ids: set[str] = set()
    with writer(output / "rows.parquet", ROWS_SCHEMA) as rows:
        p_FC = _zero_sums(settings.split)
        for batch in _rows_with_folds(files["votes"], group_of, folds, dropped):
            _add_labels(batch, p_FC)
            rows.write_batch(_with_unique_ids(batch, ids, "votes"))
        metrics |= _fold_metrics(p_FC, settings.split) | _sizes(group_of, dropped)
        _warn(p_FC, _prompts(group_of, folds, dropped), settings.split)
        for batch in _extra_rows("extra", files, prompts, settings.split, metrics):
            rows.write_batch(_with_unique_ids(batch, ids, "extra"))
    if "unlabelled" in files:
        with writer(output / "unlabelled.parquet", ROWS_SCHEMA) as unlabelled:
            for batch in _extra_rows("unlabelled", files, prompts, settings.split, metrics):
                unlabelled.write_batch(_with_unique_ids(batch, ids, "unlabelled"))
    if "preferences" in files:
        with writer(output / "preferences.parquet", SCHEMA) as preferences:
            for batch in _extra_rows("preferences", files, prompts, settings.split, metrics):
                preferences.write_batch(batch.select(SCHEMA.names))
    return metrics


def _sizes(group_of: Sequence[str], dropped: "NDArray[np.bool_]") -> dict[str, int]:
    sizes = Counter(compress(group_of, ~dropped))
    return {"groups": len(sizes), "largest_group": max(sizes.values(), default=0)}


def _prompts(group_of: Sequence[str], folds: Sequence[int], dropped: "NDArray[np.bool_]") -> Counter[int]:
    """Groups in each fold and side."""
    return Counter(fold for _, fold in set(compress(zip(group_of, folds, strict=True), ~dropped)))


def _warn(p_FC: "dict[int, NDArray[np.float64]]", prompts: Mapping[int, int], split: Split) -> None:
    """Say what the votes, the lockbox and the calibration side are too few or too much alike for.

    Raises TiebreakError where all votes are ties.
    """
    from tiebreak.stats import power
    from tiebreak.votes import sample_size
    from tiebreak.votes.schema import CALIBRATION, LOCKBOX

    labels = sample_size.label_sums(p_C[None] for p_C in p_FC.values())
    for notice in sample_size.notices(labels):
        if sample_size.are_ties(labels):
            raise TiebreakError(notice)
        log.warning("%s", notice)
    sizes = {fold: round(p_C.sum()) for fold, p_C in p_FC.items()}
    sides = power.shortfalls(split, sum(sizes.values()), sizes[LOCKBOX], prompts[LOCKBOX], sizes[CALIBRATION])
    for side, notice in sides:
        log.warning("%s: %s", side, notice)


def _folds(group_of: Sequence[str], settings: Settings) -> list[int]:
    from tiebreak.votes.folds import fold_of

    split = settings.split
    shares = split.lockbox_share, settings.seed, split.calibration_share
    fold = {group: fold_of(group, split.count, *shares) for group in set(group_of)}
    return [fold[group] for group in group_of]


def _overlaps(prompts: "Prompts", role: str, split: Split, metrics: dict[str, Any]) -> "NDArray[np.bool_]":
    """Mask of the rows of a file to drop as overlaps with test pairs or votes; counted in the metrics."""
    import numpy as np

    dropped = np.zeros(len(prompts.rows[role]), dtype=bool)
    for other in ("test", "votes"):
        if other in prompts.rows and other != role:
            overlapping = prompts.overlap_mask(role, other) & ~dropped
            metrics[f"{role}_{'dropped' if split.drop_overlaps else 'kept'}_in_{other}"] = int(
                overlapping.sum()
            )
            dropped |= overlapping
    return dropped & split.drop_overlaps


def _extra_rows(
    role: str, files: Mapping[str, Path], prompts: "Prompts", split: Split, metrics: dict[str, Any]
) -> "Iterator[pa.RecordBatch]":
    """Rows of a file, if given, that belong to every training side."""
    from tiebreak.votes.schema import EXTRA

    if role not in files:
        return
    dropped = _overlaps(prompts, role, split, metrics)
    metrics[role] = int((~dropped).sum())
    yield from _rows_with_folds(files[role], prompts.groups(role), [EXTRA] * len(dropped), dropped)


def _rows_with_folds(
    path: Path, group_of: Sequence[str], folds: Sequence[int], dropped: "NDArray[np.bool_]"
) -> "Iterator[pa.RecordBatch]":
    """The rows of a file with their group and fold, without the dropped ones."""
    import pyarrow as pa

    from tiebreak.votes.parquet import batches
    from tiebreak.votes.schema import ROWS_SCHEMA

    start = 0
    for batch in batches(path):
        rows = slice(start, start + batch.num_rows)
        start = rows.stop
        columns = [*batch.columns, pa.array(group_of[rows], pa.string()), pa.array(folds[rows], pa.int8())]
        with_folds = pa.RecordBatch.from_arrays(columns, schema=ROWS_SCHEMA)
        yield with_folds.filter(pa.array(~dropped[rows]))


def _with_unique_ids(batch: "pa.RecordBatch", taken: set[str], role: str) -> "pa.RecordBatch":
    """Make the rows' ids unique among `taken`, which is extended; duplicates get the role as prefix."""
    import pyarrow as pa

    ids = []
    for name in batch["id"].to_pylist():
        while name in taken:
            name = f"{role}/{name}"
        taken.add(name)
        ids.append(name)
    return batch.set_column(0, batch.schema.field(0), pa.array(ids, pa.string()))


def _zero_sums(split: Split) -> "dict[int, NDArray[np.float64]]":
    import numpy as np

    from tiebreak.votes.schema import CALIBRATION, LOCKBOX

    return {fold: np.zeros(3) for fold in (LOCKBOX, CALIBRATION, *range(split.count))}


def _add_labels(batch: "pa.RecordBatch", p_FC: "dict[int, NDArray[np.float64]]") -> None:
    """Add the label probabilities of the batch to the sums of their folds."""
    from tiebreak.votes.schema import probabilities

    p_NC = probabilities(batch)
    for fold, p_C in p_FC.items():
        p_C += p_NC[batch["fold"].to_numpy() == fold].sum(axis=0)


def _fold_metrics(p_FC: "dict[int, NDArray[np.float64]]", split: Split) -> dict[str, Any]:
    """Sizes of lockbox, calibration side and folds, and their imbalance. Raises TiebreakError where one is empty."""
    import numpy as np

    from tiebreak.votes.folds import imbalance
    from tiebreak.votes.schema import CALIBRATION, LOCKBOX

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


STEP = Step("split", VERSION, run, number=2, is_prerequisite=True)
