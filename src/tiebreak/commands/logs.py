"""Logs of a task: its job's of Slurm, or that of its worker on this machine."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tiebreak.engine.worker import log_file
from tiebreak.engine.workspace import Workspace
from tiebreak.errors import TiebreakError
from tiebreak.pipeline.graph import Task
from tiebreak.slurm.jobs import SlurmJobs

_POLL_SECONDS = 0.5


def newest_log(work: Workspace, task: Task) -> Path:
    """The log of a task that was written last. Raises TiebreakError if there is none."""
    cluster = SlurmJobs(work)
    places = [log_file(work, task.id), *(cluster.log_of(task, job) for job in cluster.jobs_of(task))]
    found = [path for path in places if path.is_file()]
    if not found:
        raise TiebreakError(
            f"{task.id} has no log yet; what it does, or waits for: tiebreak status {work.arguments}"
        )
    return max(found, key=lambda path: path.stat().st_mtime)


def lines(path: Path, follow: Callable[[], bool] = lambda: False) -> Iterator[str]:
    """The lines of a log; while `follow` returns True, also those to come."""
    with path.open(encoding="utf-8", errors="replace") as file:
        while True:
            goes_on = follow()  # before reading: what is written until it says no is read too
            for line in file:
                yield line.rstrip("\n")
            if not goes_on:
                return
            time.sleep(_POLL_SECONDS)
