"""Pausing of a training at a given step, so that a test finds it running on any machine."""

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any


def pause_at_step(step: int, should_stop: Callable[[], bool]) -> None:
    """Wait after the step whose number is in the file $HOLD, until its content changes or a stop is requested."""
    hold = Path(os.environ.get("HOLD", os.devnull))
    while hold.read_text() == str(step) and not should_stop():
        time.sleep(0.01)


def pause_after_saving() -> None:
    """Pause a training of this process each time it has saved."""
    from tiebreak.training import checkpoint

    save = checkpoint.save

    def save_and_pause_at_step(
        folder: Path, progress: checkpoint.Progress, weights: Mapping[str, Any], optimizer: Any
    ) -> None:
        """The process that saves pauses; the others wait for it in the next sum."""
        save(folder, progress, weights, optimizer)
        pause_at_step(progress.step, (folder / "ranks" / "stop").exists)

    checkpoint.save = save_and_pause_at_step
