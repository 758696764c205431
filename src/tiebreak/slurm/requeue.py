"""Requeue jobs that are too early (of the nine scripts), preempted or out of time.

A requeued job holds no GPU while it waits, and keeps its number, so that its dependants continue to wait.
"""

import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from tiebreak import terminal
from tiebreak.engine.local_runner import missing_inputs
from tiebreak.engine.workspace import Workspace
from tiebreak.slurm import client, numbered_scripts
from tiebreak.slurm.numbered_scripts import SCRIPTS, Job
from tiebreak.slurm.script_folder import RUN_STEP

_HEAD_START = 3.0


def requeue_until_base_known(step: int, environment: Mapping[str, str], folder: Path) -> bool:
    """Requeue this job if earlier ones may still say where SCRATCH_BASE is; True if requeued.

    The nine commands may be submitted in a row with SCRATCH_BASE set for the first alone.
    """
    if environment.get("SCRATCH_BASE", "").strip():
        return False
    earlier = _earlier_jobs(step, folder)
    if not earlier:
        return False
    time.sleep(_HEAD_START)
    known = numbered_scripts.stored_bases(folder)
    unknown = [job for job in earlier if job.job not in known]
    return bool(unknown) and _requeue_behind(unknown, "they may say where SCRATCH_BASE is")


def died_early(folder: Path) -> list[str]:
    """Lines on the jobs before this one that ended before tiebreak started."""
    found = numbered_scripts.unheard_of(folder)
    queue = {job.job for job in client.queued()} if found else set()
    return [str(start) for start in found if start.job not in queue]


def requeue_if_inputs_missing(step: int, job: Job, folder: Path) -> bool:
    """Requeue this job if earlier jobs from the same folder have yet to make its inputs; True if requeued."""
    missing = list(missing_inputs(job.work, job.tasks))
    earlier = _earlier_jobs(step, folder) if missing else []
    return bool(earlier) and _requeue_behind(earlier, f"{missing[0]} is missing")


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
    """Queued jobs of earlier steps, of scripts in the same folder, submitted before this one; none outside Slurm."""
    this = client.this_job()
    if this is None:
        return []
    names = {SCRIPTS[number] for number in SCRIPTS if number < step or number == 1}
    return [
        job
        for job in client.queued()
        if job.name in names and job.job < client.job_number(this) and _scripts_folder(job) == folder
    ]


def _scripts_folder(job: client.QueuedJob) -> Path:
    """The folder of a job's script, by the rule of the scripts: where it was submitted, or else where it lies."""
    submitted = Path(job.folder)
    script, suffix, _ = job.command.partition(".sh")
    if not suffix or (submitted / RUN_STEP).is_file():
        return submitted
    return (submitted / script).resolve().parent


def _requeue_behind(jobs: Sequence[client.QueuedJob], reason: str) -> bool:
    """Requeue this job to start once the others have ended."""
    named = ", ".join(f"{job.id} ({job.name})" for job in jobs)
    terminal.note(f"back to the queue until jobs have ended: {named}; {reason}")
    client.requeue(client.this_job() or "", sorted({job.job for job in jobs}))
    return True
