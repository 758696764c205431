"""The learning curve of the baseline: its log loss on unseen votes after all, half and a quarter of its votes.

Dimension letters: N training votes, U unseen votes, D draws, C classes (a, b, tie).
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from tiebreak.baseline.inputs import Inputs
from tiebreak.baseline.model import BLEND_PRIOR, Baseline, Parts
from tiebreak.stats.blend import LogBlend
from tiebreak.stats.learning_curve import Point
from tiebreak.stats.metrics import row_log_loss

Array = NDArray[np.float64]

HALVINGS = 2

FEWEST = 100
"""The fewest training votes of a model on the curve."""


def points(
    baseline: Baseline,
    inputs: Inputs,
    y_NC: Array,
    groups_N: NDArray[np.integer],
    weights_N: Array,
    unseen: Inputs,
    y_UC: Array,
) -> list[Point]:
    """The points of the curve: log loss of unseen votes after all votes, then after halves and quarters of at least
    FEWEST votes.

    `baseline` was fitted on all votes. A share is drawn twice, as two disjoint sets of prompts, each within one of the
    previous share. A model's blend is fitted on the other set, so that a share costs two fits of the parts, where all
    votes cost four.
    """
    all_votes = row_log_loss(baseline.predict_inputs(unseen), y_UC)
    curve = [Point(len(y_NC), all_votes[None])]
    for halving in range(1, HALVINGS + 1):
        draws = list(_draws(groups_N, 2**halving))
        if min(map(len, draws)) < FEWEST:
            break
        losses = []
        for rows, other_rows in (draws, draws[::-1]):
            parts = Parts.fit(inputs[rows], y_NC[rows], weights_N[rows])
            blend = LogBlend(BLEND_PRIOR).fit(parts.predict(inputs[other_rows]), y_NC[other_rows])
            losses.append(row_log_loss(blend.predict_proba(parts.predict(unseen)), y_UC))
        curve.append(Point(sum(map(len, draws)) // 2, np.stack(losses)))
    return curve


def _draws(groups_N: NDArray[np.integer], one_in: int) -> Iterator[NDArray[np.int64]]:
    """The rows of two of `one_in` random sets of prompts."""
    group_N = np.unique(groups_N, return_inverse=True)[1]
    part_N = np.random.default_rng(0).permutation(group_N.max() + 1)[group_N]
    for part in (0, 1):
        yield np.flatnonzero(part_N % one_in == part)
