"""A run of all nine steps on 160 votes in half a minute, with a checkpoint after each optimizer step."""

from collections.abc import Callable
from pathlib import Path

from forked import Tiebreak

VOTES = 160
SETTINGS = (
    "compute.workers=1",
    "compute.device=cpu",
    "compute.checkpoint_minutes=0",
    "compute.train_tokens=1024",
    "post_pretrain.subset_votes=64",
    "post_pretrain.training.rows_per_step=8",
    "teach.training.epochs=1",
    "distill.training.epochs=1",
    "quantize.calibration_rows=8",
    "evaluate.bootstrap_samples=20",
)
SETS = [part for setting in SETTINGS for part in ("--set", setting)]


def undisturbed(once: Callable[..., Path]) -> Path:
    """The folder of a finished run; to be copied, not changed."""

    def make(folder: Path) -> None:
        Tiebreak("init", folder / "votes", "--preset", "tiny", "--synthetic", VOTES).finish()
        Tiebreak("run", folder / "votes", *SETS).finish()

    return once("undisturbed", make) / "votes"
