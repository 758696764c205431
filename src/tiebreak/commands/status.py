"""Status of each task of a recipe: from its folder, and from Slurm if it was submitted."""

import logging
import signal
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tiebreak.commands.outputs import compute_seconds
from tiebreak.engine import progress
from tiebreak.engine.artifacts import is_locked, seconds_spent
from tiebreak.engine.planner import Failed, State, plan
from tiebreak.engine.progress import duration
from tiebreak.engine.workspace import Workspace
from tiebreak.errors import TiebreakError
from tiebreak.pipeline.graph import Task
from tiebreak.slurm import client, left
from tiebreak.slurm.jobs import SlurmJobs

log = logging.getLogger(__name__)

_THREADS = 32
LAST_LINES = 3


@dataclass(frozen=True)
class Status:
    """Status of a task. state: done, running, pending, failed, cancelled, missing or stale."""

    task: str
    state: str
    detail: str


def task_statuses(work: Workspace) -> list[Status]:
    """The status of every task, in order; by their folders alone, with a warning, where Slurm does not answer."""
    work = work.snapshot()
    cluster, states = SlurmJobs(work), plan(work)
    with ThreadPoolExecutor(_THREADS) as pool:
        local = list(pool.map(partial(_local_status, work), states))
    if cluster.record:
        try:
            return list(_on_slurm(cluster, states, local))
        except TiebreakError as error:
            log.warning("what jobs do is not known, only what they have written: %s", error)
    return local


def total(work: Workspace) -> str:
    """What the run took so far: by Slurm's accounts, which know failed jobs too, or else by what tasks have written."""
    if found := client.usage(entry["job"] for entry in SlurmJobs(work).record):
        return f"{_took(*found)}, by Slurm's accounts"
    manifests = {task.id: work.manifest(task) for task in work.tasks}
    finished = _took(*compute_seconds(manifest for manifest in manifests.values() if manifest))
    unfinished = sum(_seconds_so_far(work.folder(task)) for task in work.tasks if manifests[task.id] is None)
    more = f", {duration(unfinished)} in unfinished ones" if unfinished else ""
    return f"{finished}, in finished tasks{more}"


def _took(seconds: float, gpu_seconds: float) -> str:
    return f"{duration(seconds)} of jobs and tasks, {gpu_seconds / 3600:.2f} GPU-hours"


def _seconds_so_far(folder: Path) -> float:
    """Seconds of all turns of an unfinished task: of the one that runs, or of those that have ended."""
    reading = progress.read(folder)
    return reading.seconds if reading else seconds_spent(folder)


def _local_status(work: Workspace, state: State) -> Status:
    task, folder = state.task, work.folder(state.task)
    manifest = work.manifest(task)
    if state.status == "fresh" and manifest:
        return Status(task.id, "done", f"in {duration(manifest.seconds)}")
    if is_locked(folder):
        return Status(task.id, "running", _progress_line(folder))
    if isinstance(state.reason, Failed):
        return Status(task.id, "failed", state.reason.error)
    return Status(task.id, state.status, state.reason)


def _progress_line(folder: Path) -> str:
    reading = progress.read(folder)
    return reading.line() if reading else "starting"


def _on_slurm(
    cluster: SlurmJobs, states: Sequence[State], local_statuses: Sequence[Status]
) -> Iterator[Status]:
    queued = {job.id: job for job in client.queued()}
    restarts = client.restarts() if queued else {}
    ended = client.final_states(job for state in states for job in cluster.jobs_of(state.task)[-1:])
    later = left.read(cluster.folder)
    for state, local in zip(states, local_statuses, strict=True):
        jobs = cluster.jobs_of(state.task)
        job = queued.get(jobs[-1]) if jobs else None
        if local.state == "done":
            yield local
        elif job:
            yield _queued_status(job, local, restarts.get(job.id, 0))
        elif local.state == "running" or not jobs:
            waits = later and state.task.id in later.tasks
            text = f"job {later.job} submits it when others have ended" if later else ""
            yield Status(state.task.id, "pending", text) if waits else local
        else:
            yield _ended_status(cluster, state.task, jobs[-1], local, ended)


def _queued_status(job: client.QueuedJob, local: Status, requeues: int) -> Status:
    """Status of a task with a job: where it runs and for how long, or why it waits; how often it was requeued."""
    again = f", requeued {requeues} times" if requeues else ""
    if job.state == "PENDING":
        return Status(local.task, "pending", f"job {job.id}{again}: {job.reason}")
    where = f" on {job.node}" if job.node else ""
    since = f" for {job.elapsed}" if job.elapsed else ""
    progress_line = local.detail if local.state == "running" else "starting"
    return Status(local.task, "running", f"job {job.id}{where}{since}{again}: {progress_line}")


def _ended_status(
    cluster: SlurmJobs, task: Task, job: str, local: Status, ended: Mapping[str, client.Ended]
) -> Status:
    """Status of a task whose job ended without an artifact. sacct omits array tasks cancelled while pending."""
    log = cluster.log_of(task, job)
    guess = "FAILED" if local.state == "failed" or log.is_file() else "CANCELLED"
    final = ended.get(job, client.Ended(guess))
    if final.state == "COMPLETED":  # but its artifact is gone or outdated
        return local
    rerun = f"again: tiebreak run {cluster.work.arguments} --on slurm"
    if final.state == "CANCELLED":
        return Status(task.id, "cancelled", f"job {job}; {rerun}")
    reason = local.detail if local.state == "failed" else _last_lines(log)
    return Status(
        task.id, "failed", f"job {job}, {final.state}{_signal_text(final.signal)}: {reason}\n{rerun}"
    )


def _signal_text(number: int) -> str:
    meaning = " (out of memory, or killed)" if number == signal.SIGKILL else ""
    return f" by signal {number}{meaning}" if number else ""


def _last_lines(log: Path) -> str:
    if not log.is_file():
        return f"no log at {log}"
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return "\n".join([f"the end of {log}:", *lines[-LAST_LINES:]])
