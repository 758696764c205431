"""Trade-off of test-time augmentation: log loss against the share of votes scored in both orders.

The least certain votes are scored in both orders, the rest in the first, so a share s costs 1 + s times the scoring.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

import pyarrow as pa

from tiebreak.evaluate.variants import LabelledVotes
from tiebreak.judge.logits import mean_over_orders
from tiebreak.judge.tta import certainty_threshold, tta_probabilities
from tiebreak.recipe.schema import Tta
from tiebreak.stats.metrics import Array, Bootstrap, difference, log_loss

SHARES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)

VotesAndLogits = tuple[pa.Table, Array]
"""Votes, and their logits (n, 2, 3) in both orders, the swap undone."""


def tta_tradeoff(
    calibrating: VotesAndLogits,
    lockbox: VotesAndLogits,
    truth: LabelledVotes,
    bootstrap: Bootstrap,
    shares: Sequence[float] = SHARES,
) -> Iterator[dict[str, Any]]:
    """Log loss on the lockbox for each share of votes in both orders, and its paired change from one order; uncalibrated.

    The certainty threshold is set on the calibration votes, as in step 6; `realised` is the share of lockbox votes
    that then take both orders.
    """
    one_NC = tta_probabilities(*lockbox, Tta(), 0.0)
    both_NC = mean_over_orders(lockbox[1])
    for share in shares:
        p_NC = tta_probabilities(*lockbox, Tta(), certainty_threshold(*calibrating, share))
        change = difference([p_NC], [one_NC], truth.y_NC, bootstrap, truth.groups_N)
        yield {
            "share": share,
            "realised": float((p_NC == both_NC).all(axis=1).mean()),
            "log_loss": log_loss(p_NC, truth.y_NC),
            "change": asdict(change),
        }
