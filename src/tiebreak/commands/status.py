"""Status of each task of a recipe: from its folder, and from Slurm if it was submitted."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tiebreak.engine import progress
from tiebreak.engine.artifacts import is_locked
from tiebreak.engine.planner import Failed, State, plan
from tiebreak.engine.progress import duration
from tiebreak.engine.workspace import Workspace
from tiebreak.pipeline.graph import Task
from tiebreak.slurm import client
from tiebreak.slurm.jobs import SlurmJobs

LAST_LINES = 3


@dataclass(frozen=True)
class Status:
    """Status of a task. state: done, running, pending, failed, cancelled, missing or stale."""

    task: str
    state: str
    detail: str


def task_statuses(work: Workspace) -> list[Status]:
    """The status of every task, in order. Raises TiebreakError if jobs were submitted and Slurm does not answer."""
    cluster = SlurmJobs(work)
    return list(
        _on_slurm(cluster) if cluster.record else (_local_status(work, state) for state in plan(work))
    )


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


def _on_slurm(cluster: SlurmJobs) -> Iterator[Status]:
    queued = {job.id: job for job in client.queued()}
    ended = client.final_states(
        job for state in plan(cluster.work) for job in cluster.jobs_of(state.task)[-1:]
    )
    for state in plan(cluster.work):
        local, jobs = _local_status(cluster.work, state), cluster.jobs_of(state.task)
        if local.state in ("done", "running") or not jobs:
            yield local
        elif job := queued.get(jobs[-1]):
            yield _queued_status(job, state.task, cluster.work.folder(state.task))
        else:
            yield _ended_status(cluster, state.task, jobs[-1], local, ended)


def _queued_status(job: client.QueuedJob, task: Task, folder: Path) -> Status:
    if job.state == "PENDING":
        return Status(task.id, "pending", f"job {job.id}: {job.reason}")
    return Status(task.id, "running", f"job {job.id}: {_progress_line(folder)}")


def _ended_status(
    cluster: SlurmJobs, task: Task, job: str, local: Status, ended: Mapping[str, str]
) -> Status:
    """Status of a task whose job ended without an artifact. sacct omits array tasks cancelled while pending."""
    log = cluster.log_of(task, job)
    final_state = ended.get(job, "FAILED" if local.state == "failed" or log.is_file() else "CANCELLED")
    if final_state == "COMPLETED":  # but its artifact is gone or outdated
        return local
    rerun = f"again: tiebreak run {cluster.work.arguments} --on slurm"
    if final_state == "CANCELLED":
        return Status(task.id, "cancelled", f"job {job}; {rerun}")
    reason = local.detail if local.state == "failed" else _last_lines(log)
    return Status(task.id, "failed", f"job {job}, {final_state}: {reason}\n{rerun}")


def _last_lines(log: Path) -> str:
    if not log.is_file():
        return f"no log at {log}"
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return "\n".join([f"the end of {log}:", *lines[-LAST_LINES:]])
