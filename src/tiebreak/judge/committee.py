"""The committee of a judge: what it says of each pair in one order, in the other, and by its baseline, where one ships.

Dimension letters: N pairs, M members, C classes (a, b, tie).
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from tiebreak.judge.logits import softmax
from tiebreak.stats.metrics import Array

if TYPE_CHECKING:
    from tiebreak.judge.judge import PairJudge


def predictions(
    judge: "PairJudge", votes: pa.Table, report: Callable[..., None] = lambda *_, **__: None
) -> Array:
    """The members' calibrated probabilities (n, members, 3), the swap undone, for one pair or more (votes.schema.SCHEMA).

    Both orders are shown, whatever the judge does else. Where rules decide, all members say the same.
    """
    postprocessing = judge.postprocessing
    p_NOC = softmax(judge.logits(votes, both=True, report=report))
    members = [postprocessing.calibration.predict_proba(p_NOC[:, order]) for order in range(2)]
    if postprocessing.baseline_blend is not None:
        members.append(postprocessing.baseline_blend.baseline.predict_proba(votes))
    p_NMC = np.stack(members, axis=1)
    if postprocessing.rules is not None:
        ruled_N = postprocessing.rules.applies(votes)
        p_NMC[ruled_N] = p_NMC[ruled_N].mean(axis=1, keepdims=True)
    return p_NMC
