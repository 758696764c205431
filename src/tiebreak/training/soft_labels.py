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

from tiebreak.judge.logits import ModelLogits, mean_over_orders, pool
from tiebreak.votes.schema import swap_answers


def select_soft_labels(logits: Sequence[ModelLogits], kind: str, fold: int | None) -> list[ModelLogits]:
    """Those of the teachers' logits for training a student of `fold`, or of all."""
    own_fold = min(item.fold for item in logits if item.fold is not None) if fold is None else fold
    trained_on = ("train", "unlabelled")
    in_sample = [item for item in logits if item.fold == own_fold and item.split in trained_on]
    if kind == "in_sample":
        return in_sample
    out_of_fold = [item for item in logits if item.split == "held_out" and item.fold != fold]
    held_out = {vote for item in out_of_fold for vote in item.ids}
    never_held_out = [item.among({*item.ids} - held_out) for item in in_sample]
    return out_of_fold + never_held_out


def stack_teachers(
    votes: pa.Table, logits: Sequence[ModelLogits], teachers: Sequence[str], average_orders: bool = False
) -> tuple[pa.Table, NDArray[np.float32]]:
    """The votes that every teacher scored, and their raw logits (N, O, M, C) in the order shown.

    average_orders: logits of the mean probability over both orders, so that a swap of the answers swaps them.
    """
    scored = [pool([item for item in logits if item.model == name]) for name in teachers]
    common = set[str].intersection(*(set(item.ids) for item in scored))
    common_votes = votes.filter(pc.is_in(votes["id"], value_set=pa.array(sorted(common), pa.string())))
    ids = common_votes["id"].to_pylist()
    z_NOMC = np.stack([item.aligned(ids).z_NOC for item in scored], axis=2)
    if average_orders:
        z_NOMC = np.repeat(np.log(mean_over_orders(z_NOMC))[:, None], 2, axis=1)
    return common_votes, swap_answers(z_NOMC, [[False], [True]]).astype(np.float32)
