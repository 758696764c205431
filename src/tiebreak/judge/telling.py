"""Progress of scoring, told as events to a function that is given."""

import time
from collections.abc import Callable

from tiebreak.runtime import Event

EVERY = 0.5
"""Seconds between two events, but for the last of a pass: a notebook redraws at each."""


def telling(progress: Callable[[Event], None] | None) -> Callable[..., None]:
    """The `report` of judge.scoring that tells `progress`, and nobody without it."""
    told = float("-inf")

    def report(phase: str, done: int, total: int, unit: str) -> None:
        nonlocal told
        now = time.monotonic()
        if progress is not None and (done >= total or now - told >= EVERY):
            told = now
            progress(Event(phase, f"{done} of {total} {unit}", done, total))

    return report
