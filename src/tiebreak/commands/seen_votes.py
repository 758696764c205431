"""Votes on prompts that a judge has seen already, told by the run that the judge lies in."""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tiebreak.engine.artifacts import read_manifest
from tiebreak.seen import Groups
from tiebreak.votes import near_duplicates, splits
from tiebreak.votes.schema import read_table

log = logging.getLogger(__name__)


def warn_of_seen(models: Sequence[Path], votes: pa.Table) -> None:
    """Warn of votes (votes.schema.SCHEMA) on which a model's figures are better than they would be on new ones."""
    for model in dict.fromkeys(models):
        count = int(seen_votes(model, votes).sum())
        if count:
            log.warning(
                "%s has learned from votes on the prompts of %s of these %s votes, or was calibrated on them: figures "
                "on them are too good. Those on votes that it has not seen are in its run's report",
                model, f"{count:,}", f"{len(votes):,}",
            )  # fmt: skip


def seen_votes(model: Path, votes: pa.Table) -> NDArray[np.bool_]:
    """A mask (n,) of the votes whose prompt, or a near-duplicate, the model was trained, calibrated or chosen on.

    None are known of a model that was copied out of its run.
    """
    artifact = model.resolve().parent
    manifest = read_manifest(artifact)
    record = next(iter(manifest.inputs.get("rows", ())), None) if manifest else None
    if manifest is None or record is None:
        return np.zeros(len(votes), dtype=bool)
    split = artifact.parents[1] / f"{record.origin}-{record.key[:8]}"
    groups = frozenset((*manifest.learned_from, *manifest.fitted_on))
    known = _votes_of(split / "rows.parquet", groups)
    if "preferences" in groups:
        known += _votes_of(split / "preferences.parquet", None)
    batches = [batch for table in known for batch in table.to_batches()]
    return near_duplicates.compare_votes({"votes": votes.to_batches(), "seen": batches}).overlap_mask(
        "votes", "seen"
    )


def _votes_of(file: Path, groups: Groups | None) -> list[pa.Table]:
    """The votes of some groups, a table a fold, or all in one; nothing where the file is gone."""
    if not file.is_file():
        return []
    table = read_table(file)
    if groups is None:
        return [table]
    folds = [table.filter(pc.equal(table["fold"], fold)) for fold in pc.unique(table["fold"])]
    return [votes for votes in folds if splits.groups_of(votes) & groups]
