"""Soft labels: teachers' logits as targets for a student.

In-sample: logits of a teacher that trained on the row, as published. Out of fold: logits of the teacher that held the
row out (WSDM Cup); rows that no teacher held out, the extra votes, keep in-sample ones: those of the fold's own
teacher, or for a student of all folds the first fold's.
An out-of-fold teacher of another fold has seen the labels of this student's held-out rows.

Dimension letters: N votes, O orders, M teachers, C classes.
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tiebreak.judge.logits import by_vote, mean_over_orders
from tiebreak.votes.schema import swap_answers


def select_soft_labels(logits: pa.Table, kind: str, fold: int | None) -> pa.Table:
    """The rows of teachers' logits (judge.logits.LOGITS_SCHEMA) for training a student of `fold`, or of all."""
    trained_on = pc.is_in(logits["split"], value_set=pa.array(["train", "unlabelled"]))
    own_fold = pc.min(logits["fold"]) if fold is None else fold
    in_sample = logits.filter(pc.and_(pc.equal(logits["fold"], own_fold), trained_on))
    if kind == "in_sample":
        return in_sample
    others = pc.equal(logits["split"], "held_out")
    if fold is not None:
        others = pc.and_(others, pc.not_equal(logits["fold"], fold))
    out_of_fold = logits.filter(others)
    never_held_out = pc.invert(pc.is_in(in_sample["id"], value_set=pc.unique(out_of_fold["id"])))
    return pa.concat_tables([out_of_fold, in_sample.filter(never_held_out)])


def stack_teachers(
    votes: pa.Table, logits: pa.Table, teachers: Sequence[str], average_orders: bool = False
) -> tuple[pa.Table, NDArray[np.float32]]:
    """The votes that every teacher scored, and their raw logits (N, O, M, C) in the order shown.

    average_orders: logits of the mean probability over both orders, so that a swap of the answers swaps them.
    """
    scored = [by_vote(logits.filter(pc.equal(logits["model"], name))) for name in teachers]
    common = set.intersection(*(set(ids) for ids, _ in scored)) if scored else set()
    common_votes = votes.filter(pc.is_in(votes["id"], value_set=pa.array(sorted(common), pa.string())))
    if average_orders:
        scored = [(ids, _mean_logits(z_NOC)) for ids, z_NOC in scored]
    shown = [_in_order_shown(common_votes["id"].to_pylist(), ids, z_NOC) for ids, z_NOC in scored]
    return common_votes, np.stack(shown, axis=2) if shown else np.empty((0, 2, 0, 3), np.float32)


def _mean_logits(z_NOC: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.repeat(np.log(mean_over_orders(z_NOC))[:, None], 2, axis=1)


def _in_order_shown(wanted: list[str], ids: list[str], z_NOC: NDArray[np.float64]) -> NDArray[np.float32]:
    position = {vote: n for n, vote in enumerate(ids)}
    z_NOC = z_NOC[[position[vote] for vote in wanted]]
    return np.stack([z_NOC[:, 0], swap_answers(z_NOC[:, 1])], axis=1).astype(np.float32)
