"""Requeue jobs that are too early (of the nine scripts), preempted or out of time.

A requeued job holds no GPU while it waits, and keeps its number, so that its dependants continue to wait.
"""

import signal
import time
from collections.abc import Mapping
from pathlib import Path

from tiebreak import terminal
from tiebreak.engine.local_runner import missing_inputs
from tiebreak.engine.workspace import Workspace
from tiebreak.slurm import client
from tiebreak.slurm.numbered_scripts import SCRIPTS, STORED_BASE, Job

_HEAD_START = 3.0


def requeue_until_base_known(step: int, environment: Mapping[str, str], folder: Path) -> bool:
    """Requeue this job if an earlier one may still store SCRATCH_BASE; True if requeued.

    The nine commands may be submitted in a row with SCRATCH_BASE set for the first alone.
    """
    if environment.get("SCRATCH_BASE", "").strip():
        return False
    earlier = _earlier_jobs(step, folder)
    if not earlier:
        return False
    time.sleep(_HEAD_START)
    stored_at = (folder / STORED_BASE).stat().st_mtime if (folder / STORED_BASE).is_file() else 0.0
    for job in earlier:
        has_stored = (folder / f"{STORED_BASE}-{job.job}").is_file()
        if stored_at == 0.0 or (not has_stored and job.submit_time > stored_at):
            return _requeue_behind(job, "it may say where SCRATCH_BASE is")
    return False


def requeue_if_inputs_missing(step: int, job: Job, folder: Path) -> bool:
    """Requeue this job if earlier jobs from the same folder have yet to make its inputs; True if requeued."""
    missing = list(missing_inputs(job.work, job.tasks))
    earlier = _earlier_jobs(step, folder) if missing else []
    return bool(earlier) and _requeue_behind(earlier[0], f"{missing[0]} is missing")


def requeue_if_stopped(work: Workspace, received: int | None) -> bool:
    """Requeue this Slurm job if the signal `received` means preemption or the end of its time; True if requeued."""
    job = client.this_job()
    if job is None or received == signal.SIGINT:
        return False
    is_preempted = client.is_preempted(job)
    if is_preempted:
        client.requeue(job)
    elif received == signal.SIGUSR1:
        client.requeue_after_timeout(work.run_dir, work.recipe.slurm.requeues)
    else:
        return False
    reason = "preempted" if is_preempted else "out of time"
    terminal.note(f"{reason}: saved a checkpoint, back in the queue")
    return True


def _earlier_jobs(step: int, folder: Path) -> list[client.QueuedJob]:
    """Queued jobs of earlier steps, submitted from the same folder before this one; none outside Slurm."""
    names = [SCRIPTS[number] for number in SCRIPTS if number < step or number == 1]
    return client.earlier_jobs(names, folder) if client.this_job() else []


def _requeue_behind(job: client.QueuedJob, reason: str) -> bool:
    terminal.note(f"back to the queue, behind job {job.id} ({job.name}): {reason}")
    client.requeue(client.this_job() or "")
    return True
