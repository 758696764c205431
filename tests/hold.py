"""A training that stands still, so that a test finds it at work however quick the machine is."""

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any


def stand_still(step: int, should_stop: Callable[[], bool]) -> None:
    """After the step whose number is in the file $HOLD, until it says something else or a stop is asked for."""
    hold = Path(os.environ.get("HOLD", os.devnull))
    while hold.read_text() == str(step) and not should_stop():
        time.sleep(0.01)


def obey() -> None:
    """Have a training of this process stand still when it has saved."""
    from tiebreak.train import checkpoint

    save = checkpoint.save

    def save_and_stand_still(
        folder: Path, progress: checkpoint.Progress, weights: Mapping[str, Any], optimizer: Any
    ) -> None:
        """The one that saves stands still; the others wait for it in the next sum."""
        save(folder, progress, weights, optimizer)
        stand_still(progress.step, (folder / "ranks" / "stop").exists)

    checkpoint.save = save_and_stand_still
