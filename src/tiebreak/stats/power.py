"""The power of a lockbox and of a calibration side, by their numbers of votes."""

import math
from collections.abc import Iterator

from scipy.special import stdtrit

from tiebreak.recipe.schema import Split
from tiebreak.stats.metrics import MIN_GROUPS, Estimate, minimum_detectable

SPREAD = 0.5
"""Standard deviation over votes of a judge's log loss less the class shares': 0.50 for a fine-tuned LLM that gains 0.15
on 14,370 real votes, 0.20 for word counts that gain 0.04."""

LOCKBOX_WANTED = 200
"""Votes that show a gain of 0.1."""

CALIBRATION_WANTED = 100
"""Votes on which a temperature loses less than 0.005."""

_LARGEST_SHARE = 0.3
"""Shares above are not advised."""


def smallest_gain(votes: int) -> float:
    """The true gain over the class shares, in log loss, that a 95 % interval of these votes shows with 80 % power."""
    half = float(stdtrit(votes - 1, 0.975)) * SPREAD / math.sqrt(votes)
    found = minimum_detectable(Estimate(0.0, -half, half), 0.95)
    assert found is not None
    return found


def loss_of_calibrating(votes: int) -> float:
    """The approximate excess log loss of a temperature fitted on these votes over the best one (benchmarks/few_votes.py)."""
    return 0.5 / (votes + 10)


def shortfalls(
    split: Split, votes: int, lockbox: int, prompts: int, calibration: int
) -> Iterator[tuple[str, str]]:
    """Sides that are too small, and for what: a lockbox of so many of all votes, on so many prompts, and a calibration
    side. A side whose share is 0 is not wanted.
    """
    if split.lockbox_share and (lockbox < LOCKBOX_WANTED or prompts < MIN_GROUPS):
        yield (
            "lockbox",
            _lockbox(lockbox, prompts) + _advice("lockbox", split.lockbox_share, LOCKBOX_WANTED, votes),
        )
    if split.calibration_share and calibration < CALIBRATION_WANTED:
        yield (
            "calibration side",
            f"a temperature fitted on {calibration} votes loses about {loss_of_calibrating(calibration):.3f} of log loss; "
            f"{CALIBRATION_WANTED} lose {loss_of_calibrating(CALIBRATION_WANTED):.3f}: "
            + _advice("calibration", split.calibration_share, CALIBRATION_WANTED, votes),
        )


def _lockbox(votes: int, prompts: int) -> str:
    wanted = f"{LOCKBOX_WANTED} votes show a gain of {smallest_gain(LOCKBOX_WANTED):.1f} over them: "
    if prompts < MIN_GROUPS:
        return (
            f"{votes} votes on {prompts} prompt{'s' * (prompts != 1)}: fewer than {MIN_GROUPS} prompts allow no interval and no test, so that no "
            f"judge can be found better than the class shares; {wanted}"
        )
    return (
        f"{votes} votes show with 80 % power that a judge is better than the class shares if it gains "
        f"{smallest_gain(votes):.2f} of log loss, and most gain 0.05 to 0.15; {wanted}"
    )


def _advice(side: str, share: float, wanted: int, of: int) -> str:
    """The remedy for a side with too few votes: more votes, or a larger share if that is enough."""
    more = f"give about {math.ceil(wanted / share / 100) * 100:,} votes"
    needed = math.ceil(100 * wanted / of) / 100
    return f"{more}, or --set split.{side}_share={needed:g}" if share < needed <= _LARGEST_SHARE else more
