"""What test-time augmentation buys: both orders for the votes that one order leaves uncertain.

The rest keep the order first shown, so a share s in both orders costs 1 + s times the scoring.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

import pyarrow as pa

from tiebreak.data.logits import mean_over_orders
from tiebreak.data.orders import certainty, over_orders
from tiebreak.evaluate.ladder import Truth
from tiebreak.evaluate.metrics import Array, Bootstrap, difference, log_loss
from tiebreak.recipe import Tta

SHARES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)

Said = tuple[pa.Table, Array]
"""Votes, and their logits (n, 2, 3) in both orders, the swap undone."""


def trade(
    calibrating: Said,
    lockbox: Said,
    truth: Truth,
    bootstrap: Bootstrap,
    shares: Sequence[float] = SHARES,
) -> Iterator[dict[str, Any]]:
    """For each share of the calibrating votes that sets the certainty, as step 6 does: the share of the lockbox
    votes that then count in both orders, their log loss, and its paired change from one order; not calibrated.
    """
    one_NC = over_orders(*lockbox, Tta(), 0.0)
    both_NC = mean_over_orders(lockbox[1])
    for share in shares:
        p_NC = over_orders(*lockbox, Tta(), certainty(*calibrating, share))
        change = difference([p_NC], [one_NC], truth.y_NC, bootstrap, truth.groups_N)
        yield {
            "share": share,
            "realised": float((p_NC == both_NC).all(axis=1).mean()),
            "log_loss": log_loss(p_NC, truth.y_NC),
            "change": asdict(change),
        }
