"""Jobs that come again: one of the nine scripts that is too early, and one that is preempted or out of time.

A requeued job holds no card while it waits, and keeps its number, so that what depends on it goes on waiting.
"""

import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from tiebreak.execute import queue
from tiebreak.execute.local import missing_inputs
from tiebreak.execute.scratch import REMEMBERED, SCRIPTS, Job
from tiebreak.execute.workspace import Workspace

_HEAD_START = 3.0


def waits_for_earlier(step: int, environment: Mapping[str, str], folder: Path) -> bool:
    """Is it not known yet which SCRATCH_BASE an earlier job was given? Then this one is back in the queue.

    The nine commands may be given in a row, and only the first says SCRATCH_BASE.
    """
    if environment.get("SCRATCH_BASE", "").strip():
        return False
    earlier = _earlier(step, folder)
    if not earlier:
        return False
    time.sleep(_HEAD_START)
    known_at = (folder / REMEMBERED).stat().st_mtime if (folder / REMEMBERED).is_file() else 0.0
    for job in earlier:
        has_said = (folder / f"{REMEMBERED}-{job.job}").is_file()
        if known_at == 0.0 or (not has_said and job.submit_time > known_at):
            return _requeued_behind(job, "it may say where SCRATCH_BASE is")
    return False


def is_back_in_queue(step: int, job: Job, folder: Path) -> bool:
    """Does the job need what earlier jobs from the same folder have yet to make? Then it is requeued."""
    missing = list(missing_inputs(job.work, job.tasks))
    earlier = _earlier(step, folder) if missing else []
    return bool(earlier) and _requeued_behind(earlier[0], f"{missing[0]} is missing")


def comes_again(work: Workspace, received: int | None) -> bool:
    """Was this Slurm job, stopped by the signal `received`, preempted or out of time? Then it is requeued."""
    job = queue.this_job()
    if job is None or received == signal.SIGINT:
        return False
    why = "preempted" if queue.is_preempted(job) else "out of time"
    if why == "preempted":
        queue.requeue(job)
    elif received == signal.SIGUSR1:
        queue.requeue_this(work.run_dir, work.recipe.slurm.requeues)
    else:
        return False
    print(f"{why}: saved a checkpoint, back in the queue", file=sys.stderr)
    return True


def _earlier(step: int, folder: Path) -> list[queue.Queued]:
    """Jobs of the steps before, submitted from the same folder before this one; none outside Slurm."""
    names = [SCRIPTS[number] for number in SCRIPTS if number < step or number == 1]
    return queue.earlier_jobs(names, folder) if queue.this_job() else []


def _requeued_behind(job: queue.Queued, why: str) -> bool:
    print(f"back to the queue, behind job {job.id} ({job.name}): {why}", file=sys.stderr)
    queue.requeue(queue.this_job() or "")
    return True
