"""Live view of a run's status: counts, and what is not done yet, with the course of each loss."""

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from tiebreak.commands.status import Status, task_statuses
from tiebreak.engine import progress
from tiebreak.engine.workspace import Workspace

_BARS = "▁▂▃▄▅▆▇█"
_MOST_POINTS = 40
_SECONDS = 5.0
_ACTIVE = ("running", "pending")

Curves = Mapping[str, Sequence[float]]


def sparkline(values: Sequence[float]) -> str:
    """The last values as bars, lowest to highest."""
    shown = values[-_MOST_POINTS:]
    low, high = min(shown), max(shown)
    span = (high - low) or 1.0
    return "".join(_BARS[round((value - low) / span * (len(_BARS) - 1))] for value in shown)


def summary(statuses: Sequence[Status]) -> str:
    """`12 done, 3 running, 8 pending`."""
    return ", ".join(f"{count} {state}" for state, count in Counter(row.state for row in statuses).items())


def watch(work: Workspace, show: Callable[[Sequence[Status], Curves], None]) -> None:
    """Show the statuses and the losses seen so far, every few seconds until nothing runs or waits."""
    losses: dict[str, list[float]] = {}
    while True:
        statuses = task_statuses(work)
        for row in statuses:
            reading = progress.read(work.folder(work.find(row.task))) if row.state == "running" else None
            if reading and "loss" in reading.figures:
                losses.setdefault(row.task, []).append(reading.figures["loss"])
        show(statuses, losses)
        if not any(row.state in _ACTIVE for row in statuses):
            return
        time.sleep(_SECONDS)
