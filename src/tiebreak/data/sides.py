"""Which votes a step may see: a fold's training side, its held-out side, the lockbox, the calibration side."""

import hashlib
from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tiebreak.data.votes import CALIBRATION, EXTRA, LOCKBOX
from tiebreak.seen import Groups


def training_side(rows: pa.Table, fold: int) -> pa.Table:
    """Every vote that neither the fold holds out nor lockbox or calibration side keep; extra votes are among them."""
    kept_out = pa.array([fold, LOCKBOX, CALIBRATION], pa.int8())
    return rows.filter(pc.invert(pc.is_in(rows["fold"], value_set=kept_out)))


def held_out(rows: pa.Table, fold: int) -> pa.Table:
    """The votes of one fold."""
    return rows.filter(pc.equal(rows["fold"], fold))


def lockbox(rows: pa.Table) -> pa.Table:
    """The votes that no step trains, calibrates or selects on."""
    return rows.filter(pc.equal(rows["fold"], LOCKBOX))


def calibration(rows: pa.Table) -> pa.Table:
    """The votes that no model trains on: what is calibrated or chosen is fitted on them."""
    return rows.filter(pc.equal(rows["fold"], CALIBRATION))


def voted(rows: pa.Table) -> pa.Table:
    """The votes that belong to a fold: neither lockbox, nor calibration side, nor extra."""
    return rows.filter(pc.greater_equal(rows["fold"], 0))


def subset(rows: pa.Table, count: int, seed: int) -> pa.Table:
    """`count` votes drawn with the seed, in their old order; all of them where count is -1 or too large.

    The same seed draws a smaller subset out of a larger one.
    """
    if count < 0 or count >= len(rows):
        return rows
    chosen = np.random.default_rng(seed).permutation(len(rows))[:count]
    return rows.take(np.sort(chosen))


def groups_of(rows: pa.Table) -> Groups:
    """The names of the folds and sides that votes (data.votes.ROWS_SCHEMA) belong to, as `tiebreak.seen` has them."""
    is_pair = pc.and_(pc.equal(rows["fold"], EXTRA), pc.is_null(rows["p_a"]))
    names = {LOCKBOX: "lockbox", CALIBRATION: "calibration", EXTRA: "extra"}
    folds = pc.unique(rows.filter(pc.invert(is_pair))["fold"]).to_pylist()
    voted = {names.get(fold, f"fold{fold}") for fold in folds}
    return frozenset(voted | {"unlabelled"} if pc.any(is_pair).as_py() else voted)


def marked(
    parts: Mapping[str, pa.Table], trained_on: pa.Table | None = None, learned_from: Groups = frozenset()
) -> pa.Table:
    """Votes to score, by their split, as one table with columns `split` and `origin` (data.logits.LOGITS_SCHEMA).

    trained_on: the votes that the model was trained on, which are in_sample. learned_from: the groups that it has
    learned from; parts of other votes that touch them are through_teachers.
    """
    table = pa.concat_tables(
        part.append_column("split", pa.array([split] * len(part), pa.string())).append_column(
            "origin", pa.array([_origin(part, learned_from)] * len(part), pa.string())
        )
        for split, part in parts.items()
    )
    if trained_on is None:
        return table
    is_trained = pc.is_in(table["id"], value_set=trained_on["id"].combine_chunks())
    at = table.schema.get_field_index("origin")
    return table.set_column(at, "origin", pc.if_else(is_trained, "in_sample", table["origin"]))


def _origin(part: pa.Table, learned_from: Groups) -> str:
    return "through_teachers" if learned_from and groups_of(part) & learned_from else "out_of_fold"


def derive(seed: int, *words: object) -> int:
    """A seed of its own for each use, such as derive(seed, "teach", fold)."""
    text = "/".join(map(str, (seed, *words)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")
