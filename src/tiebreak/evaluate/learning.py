"""A learning curve, and what twice the votes would be worth.

Dimension letters: D draws, U unseen votes.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tiebreak.evaluate.metrics import MIN_GROUPS, Array, Bootstrap, Estimate

EXPONENTS = (0.2, 0.5, 1.0)
"""Powers of the number of votes with which losses fall: the slowest that is allowed for, the usual, the fastest."""


@dataclass(frozen=True)
class Point:
    """Log loss of each unseen vote (draws, u) after learning from so many votes, which were drawn once or more."""

    votes: int
    losses_DU: Array


def learning_curve(
    points: Sequence[Point], groups_U: NDArray[np.integer], bootstrap: Bootstrap
) -> dict[str, Any]:
    """Each point, most votes first, with its change from the point after it, which has half the votes; `spread` is the
    standard deviation over its draws. `gain` is the expected one of twice the votes, None for fewer than three points,
    and `text` says it.

    groups_U: the prompt of each unseen vote. Intervals are of unseen votes.
    """
    loss_PU = np.stack([point.losses_DU.mean(axis=0) for point in points])
    losses = bootstrap.estimates(loss_PU.T, groups_U)
    changes = bootstrap.estimates((loss_PU[:-1] - loss_PU[1:]).T, groups_U) if len(points) > 1 else []
    rows = [
        {
            "votes": point.votes,
            "log_loss": asdict(loss),
            "change": asdict(change) if change else None,
            "spread": float(point.losses_DU.mean(axis=1).std(ddof=1)) if len(point.losses_DU) > 1 else None,
        }
        for point, loss, change in zip(points, losses, [*changes, None], strict=True)
    ]
    gain = None
    if len(points) > 2:
        (two_doublings,) = bootstrap.estimates((loss_PU[2] - loss_PU[0])[:, None], groups_U)
        gain = expected_gain(two_doublings)
    return {
        "rows": rows,
        "unseen_votes": len(groups_U),
        "confidence": bootstrap.confidence,
        "gain": gain and asdict(gain),
        "text": _text(gain),
    }


def expected_gain(two_doublings: Estimate) -> Estimate:
    """By how much the next doubling of the votes lowers the loss, from what the last two together did.

    Of a loss a + b n^-c each doubling gains r = 2^-c times what the one before it did, so after two that gained g
    the next gains g r^2 / (1 + r). c is not fitted: with some hundred unseen votes it cannot be told from two or three
    differences (docs/decisions.md has the figures). The value has c = 0.5; the range is the interval of g, its ends with
    those of EXPONENTS that make it widest (on exponents: Viering and Loog, arXiv:2103.10948).

    Weakness: the interval is of the unseen votes, not of which votes were drawn to learn from; a model that is not yet
    learning, or that a larger one should replace, follows no such law.
    """
    slow, usual, fast = ((r := 2**-c) ** 2 / (1 + r) for c in EXPONENTS)
    value, low, high = two_doublings.value, two_doublings.low, two_doublings.high
    if low is None or high is None:
        return Estimate(value * usual)
    return Estimate(value * usual, min(low * slow, low * fast), max(high * slow, high * fast))


def _text(gain: Estimate | None) -> str:
    if gain is None:
        return "Too few votes to say what twice as many would be worth."
    if gain.low is None or gain.high is None:
        return (
            f"Twice the votes might change the baseline's log loss by {-gain.value:+.3f}; fewer than {MIN_GROUPS} "
            "prompts allow no range."
        )
    if gain.low <= 0:
        return (
            "Whether twice the votes would lower the baseline's log loss is not clear from these "
            f"({-gain.value:+.3f}, {-gain.high:+.3f} to {-gain.low:+.3f})."
        )
    return (
        f"Twice the votes would lower the baseline's log loss by about {gain.value:.3f} "
        f"({gain.low:.3f} to {gain.high:.3f})."
    )
