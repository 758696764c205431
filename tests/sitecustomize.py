"""Python reads this by itself where PYTHONPATH names its folder: tasks shared by processes then obey $HOLD."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

if "tiebreak.execute.rank" in sys.orig_argv:
    from hold import stand_still

    from tiebreak.train import checkpoint

    save = checkpoint.save

    def save_and_stand_still(
        folder: Path, progress: checkpoint.Progress, weights: Mapping[str, Any], optimizer: Any
    ) -> None:
        """The one that saves stands still; the others wait for it in the next sum."""
        save(folder, progress, weights, optimizer)
        stand_still(progress.step, (folder / "ranks" / "stop").exists)

    checkpoint.save = save_and_stand_still
