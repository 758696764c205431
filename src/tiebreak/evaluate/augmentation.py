"""What test-time augmentation buys: both orders for the votes that one order leaves uncertain.

The rest keep the order first shown, so a share s in both orders costs 1 + s times the scoring.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa

from tiebreak.data.logits import mean_over_orders
from tiebreak.evaluate.ladder import Truth
from tiebreak.evaluate.metrics import Array, Bootstrap, difference, log_loss
from tiebreak.recipe import Tta

SHARES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)

Said = tuple[pa.Table, Array]
"""Votes, and their logits (n, 2, 3) in both orders, the swap undone."""


@dataclass(frozen=True)
class PartialTta:
    """`certainty` and `over_orders` of predict.verdict, which imports this package: so they are handed in."""

    certainty: Callable[[pa.Table, Array, float], float | None]
    over_orders: Callable[[pa.Table, Array, Tta, float | None], Array]


def trade(
    partial_tta: PartialTta,
    held_out: Said,
    lockbox: Said,
    truth: Truth,
    bootstrap: Bootstrap,
    shares: Sequence[float] = SHARES,
) -> Iterator[dict[str, Any]]:
    """For each share of the held-out votes that sets the certainty, as step 6 does: the share of the lockbox
    votes that then count in both orders, their log loss, and its paired change from one order; not calibrated.
    """
    one_NC = partial_tta.over_orders(*lockbox, Tta(), 0.0)
    both_NC = mean_over_orders(lockbox[1])
    for share in shares:
        p_NC = partial_tta.over_orders(*lockbox, Tta(), partial_tta.certainty(*held_out, share))
        change = difference([p_NC], [one_NC], truth.y_NC, bootstrap, truth.groups_N)
        yield {
            "share": share,
            "realised": float((p_NC == both_NC).all(axis=1).mean()),
            "log_loss": log_loss(p_NC, truth.y_NC),
            "change": asdict(change),
        }
