"""The runtime environment of a step, which knows nothing of schedulers, terminals or run folders; and events of progress."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

TRAIN_TOKENS = 8192
"""Tokens of a forward and backward where neither the recipe nor the model's size says otherwise."""
SCORE_TOKENS = 16384
"""Tokens of a forward when scoring, where nothing else is said."""


def _silent(phase: str, done: int, total: int, unit: str, **figures: float) -> None:
    """Discard a progress report."""


def _never() -> bool:
    return False


@dataclass(frozen=True)
class Event:
    """A line of progress, for a function that is given: of one task of a run, or of a prediction.

    ended: of all `tasks` those that have ended; of a prediction rows, of those to score. `str(event)` is the line as a log has it.
    """

    task: str
    text: str
    ended: int
    tasks: int

    def __str__(self) -> str:
        return f"[{self.ended}/{self.tasks}] {self.task}: {self.text}"


@dataclass(frozen=True)
class Runtime:
    """The environment of one running task.

    device: a torch device type, "cpu" or "cuda".
    train_tokens, score_tokens: tokens of one forward; a longer row gets a batch of its own. None: by the model's size.
    checkpoint_minutes: time between two checkpoints.
    scratch: a folder that survives a kill and is removed once the task is complete (checkpoints).
    report: report(phase, done, total, unit, **figures) is called often; throttling is up to the callee.
    should_stop: true once the task should save a checkpoint and raise `errors.Interrupted`.
    is_main: false in a process that shares the work of another, which alone writes the outputs of a step.
    """

    device: str
    scratch: Path
    train_tokens: int | None = None
    score_tokens: int = SCORE_TOKENS
    checkpoint_minutes: float = 10.0
    report: Callable[..., None] = _silent
    should_stop: Callable[[], bool] = _never
    is_main: bool = True
