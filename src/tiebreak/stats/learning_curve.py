"""Learning curves, and the expected gain from twice the votes.

Dimension letters: D draws, U unseen votes.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tiebreak.stats.metrics import MIN_GROUPS, Array, Bootstrap, Estimate

EXPONENTS = (0.2, 0.5, 1.0)
"""Exponents of the power law of the loss in the number of votes: the slowest considered, the usual, the fastest."""


@dataclass(frozen=True)
class Point:
    """The log loss of each unseen vote (draws, u) after training on so many votes, drawn once or more often."""

    votes: int
    losses_DU: Array


def learning_curve(
    points: Sequence[Point], groups_U: NDArray[np.integer], bootstrap: Bootstrap
) -> dict[str, Any]:
    """The learning curve as plain values: points, expected gain and a sentence about it.

    `rows` are the points, most votes first, each with its change from the next, which has half the votes; `spread` is
    the standard deviation over its draws. `gain` is the expected gain from twice the votes, None for fewer than three
    points, and `text` describes it.

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
    """The expected decrease of the loss in the next doubling of the votes, from the decrease in the last two together.

    For a loss a + b n^-c each doubling gains r = 2^-c times as much as the one before, so after two that gained g
    the next gains g r^2 / (1 + r). c is not fitted: with some hundred unseen votes two or three differences do not
    determine it (docs/decisions.md has the figures). The value has c = 0.5; the range is the interval of g, its ends
    with those of EXPONENTS that make it widest (on exponents: Viering and Loog, arXiv:2103.10948).

    Limitations: the interval covers the sampling of the unseen votes, not that of the training votes; a model that
    does not learn yet, or is too small for the votes, follows no such law.
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
