"""A training that stands still, so that a test finds it at work however quick the machine is."""

import os
import time
from collections.abc import Callable
from pathlib import Path


def stand_still(step: int, should_stop: Callable[[], bool]) -> None:
    """After the step whose number is in the file $HOLD, until it says something else or a stop is asked for."""
    hold = Path(os.environ.get("HOLD", os.devnull))
    while hold.read_text() == str(step) and not should_stop():
        time.sleep(0.01)
