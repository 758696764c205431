"""What test-time augmentation buys: both orders for the most uncertain share of votes only.

The rest keep the stored order, so a share s costs 1 + s times the scoring.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from tiebreak.data.logits import mean_over_orders, softmax
from tiebreak.evaluate.ladder import Truth
from tiebreak.evaluate.metrics import Array, Bootstrap, difference, log_loss

SHARES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)


def partly_augmented(z_NOC: Array, share: float) -> Array:
    """Probabilities (n, 3) with both orders for the share of votes whose likeliest class is least likely."""
    p_NC = softmax(z_NOC[:, 0])
    uncertain = np.argsort(p_NC.max(axis=1), kind="stable")[: round(share * len(p_NC))]
    p_NC[uncertain] = mean_over_orders(z_NOC[uncertain])
    return p_NC


def trade(
    z_NOC: Array, truth: Truth, bootstrap: Bootstrap, shares: Sequence[float] = SHARES
) -> Iterator[dict[str, Any]]:
    """For each share the log loss, and its paired change from augmenting no vote; not calibrated."""
    none_NC = partly_augmented(z_NOC, 0.0)
    for share in shares:
        p_NC = partly_augmented(z_NOC, share)
        change = difference([p_NC], [none_NC], truth.y_NC, bootstrap, truth.groups_N)
        yield {"share": share, "log_loss": log_loss(p_NC, truth.y_NC), "change": asdict(change)}
