"""Splits of votes: training and held-out votes of a fold, the lockbox, and the calibration split."""

import hashlib
from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tiebreak.seen import Groups
from tiebreak.votes.schema import CALIBRATION, EXTRA, LOCKBOX


def training_votes(rows: pa.Table, fold: int) -> pa.Table:
    """The training votes of a fold, extra votes included: all but the fold's own, the lockbox and calibration votes."""
    excluded = pa.array([fold, LOCKBOX, CALIBRATION], pa.int8())
    return rows.filter(pc.invert(pc.is_in(rows["fold"], value_set=excluded)))


def held_out(rows: pa.Table, fold: int) -> pa.Table:
    """The held-out votes of a fold."""
    return rows.filter(pc.equal(rows["fold"], fold))


def lockbox(rows: pa.Table) -> pa.Table:
    """The lockbox votes, which no step trains, calibrates or selects on."""
    return rows.filter(pc.equal(rows["fold"], LOCKBOX))


def calibration(rows: pa.Table) -> pa.Table:
    """The calibration votes, which no model trains on; calibrators are fitted and methods chosen on them."""
    return rows.filter(pc.equal(rows["fold"], CALIBRATION))


def subset(rows: pa.Table, count: int, seed: int) -> pa.Table:
    """A random subset of `count` votes in their old order; all of them where count is -1 or too large.

    The same seed draws a smaller subset out of a larger one.
    """
    if count < 0 or count >= len(rows):
        return rows
    chosen = np.random.default_rng(seed).permutation(len(rows))[:count]
    return rows.take(np.sort(chosen))


def groups_of(rows: pa.Table) -> Groups:
    """The names of the splits that votes (votes.schema.ROWS_SCHEMA) belong to, as `tiebreak.seen` defines them."""
    is_pair = pc.and_(pc.equal(rows["fold"], EXTRA), pc.is_null(rows["p_a"]))
    names = {LOCKBOX: "lockbox", CALIBRATION: "calibration", EXTRA: "extra"}
    folds = pc.unique(rows.filter(pc.invert(is_pair))["fold"]).to_pylist()
    groups = {names.get(fold, f"fold{fold}") for fold in folds}
    return frozenset(groups | {"unlabelled"} if pc.any(is_pair).as_py() else groups)


def tag_splits(
    parts: Mapping[str, pa.Table], trained_on: pa.Table | None = None, learned_from: Groups = frozenset()
) -> pa.Table:
    """One table of the votes to score, with columns `split` and `origin` (judge.logits.LOGITS_SCHEMA).

    parts: votes by the name of their split. trained_on: the votes that the model was trained on, whose origin is
    in_sample. learned_from: the groups that it has learned from; the origin of other parts with votes of these is
    through_teachers.
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


def derive_seed(seed: int, *words: object) -> int:
    """A separate seed for each use, such as derive_seed(seed, "teach", fold)."""
    text = "/".join(map(str, (seed, *words)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")
