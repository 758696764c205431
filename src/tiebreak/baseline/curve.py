"""The baseline's learning curve: what it says of unseen votes when it learns from half of its votes, and a quarter.

Dimension letters: N training votes, U unseen votes, D draws, C classes (a, b, tie).
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from tiebreak.baseline.inputs import Inputs
from tiebreak.baseline.model import BLEND_PRIOR, Baseline, Parts
from tiebreak.evaluate.blend import LogBlend
from tiebreak.evaluate.learning import Point
from tiebreak.evaluate.metrics import row_log_loss

Array = NDArray[np.float64]

HALVINGS = 2

FEWEST = 100
"""Votes that a model of the curve learns from at least."""


def points(
    baseline: Baseline,
    seen: Inputs,
    y_NC: Array,
    groups_N: NDArray[np.integer],
    weights_N: Array,
    unseen: Inputs,
    y_UC: Array,
) -> list[Point]:
    """Log loss of unseen votes after all votes, on which `baseline` was fitted, then after shares of them, as far as
    these have FEWEST votes.

    A share is drawn twice: two sets of prompts that have none in common, each within one of the share before. A
    model's blend is fitted on the other set, so that a share costs two fits of the parts, where all votes cost four.
    """
    all_votes = row_log_loss(baseline.predict_inputs(unseen), y_UC)
    found = [Point(len(y_NC), all_votes[None])]
    for halving in range(1, HALVINGS + 1):
        draws = list(_draws(groups_N, 2**halving))
        if min(map(len, draws)) < FEWEST:
            break
        losses = []
        for drawn, other in (draws, draws[::-1]):
            parts = Parts.fit(seen[drawn], y_NC[drawn], weights_N[drawn])
            blend = LogBlend(BLEND_PRIOR).fit(parts.predict(seen[other]), y_NC[other])
            losses.append(row_log_loss(blend.predict_proba(parts.predict(unseen)), y_UC))
        found.append(Point(sum(map(len, draws)) // 2, np.stack(losses)))
    return found


def _draws(groups_N: NDArray[np.integer], one_in: int) -> Iterator[NDArray[np.int64]]:
    """Rows of two of `one_in` sets of prompts, drawn at random."""
    group_N = np.unique(groups_N, return_inverse=True)[1]
    place_N = np.random.default_rng(0).permutation(group_N.max() + 1)[group_N]
    for place in (0, 1):
        yield np.flatnonzero(place_N % one_in == place)
