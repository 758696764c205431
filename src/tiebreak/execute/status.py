"""What each task of a recipe is doing now: from its folder, and from Slurm where it was given to Slurm."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tiebreak.execute import progress, queue
from tiebreak.execute.artifacts import is_locked
from tiebreak.execute.cluster import Cluster
from tiebreak.execute.plan import State, plan
from tiebreak.execute.progress import duration
from tiebreak.execute.workspace import Workspace
from tiebreak.pipeline import Task

LAST_LINES = 3


@dataclass(frozen=True)
class Status:
    """`state` is done, running, pending, failed, cancelled, missing or stale."""

    task: str
    state: str
    detail: str


def status(work: Workspace) -> list[Status]:
    """The status of every task, in order. Raises TiebreakError if jobs were submitted and Slurm is silent."""
    cluster = Cluster(work)
    return list(_on_slurm(cluster) if cluster.record else (_here(work, state) for state in plan(work)))


def _here(work: Workspace, state: State) -> Status:
    task, folder = state.task, work.folder(state.task)
    manifest = work.manifest(task)
    if state.status == "fresh" and manifest:
        return Status(task.id, "done", f"in {duration(manifest.seconds)}")
    if is_locked(folder):
        return Status(task.id, "running", _how_far(folder))
    if state.reason.startswith("failed: "):
        return Status(task.id, "failed", state.reason.removeprefix("failed: "))
    return Status(task.id, state.status, state.reason)


def _how_far(folder: Path) -> str:
    reading = progress.read(folder)
    return reading.line() if reading else "starting"


def _on_slurm(cluster: Cluster) -> Iterator[Status]:
    alive = {job.id: job for job in queue.queued()}
    gone = queue.ended(job for state in plan(cluster.work) for job in cluster.jobs_of(state.task)[-1:])
    for state in plan(cluster.work):
        here, jobs = _here(cluster.work, state), cluster.jobs_of(state.task)
        if here.state in ("done", "running") or not jobs:
            yield here
        elif job := alive.get(jobs[-1]):
            yield _alive(job, state.task, cluster.work.folder(state.task))
        else:
            yield _ended(cluster, state.task, jobs[-1], here, gone)


def _alive(job: queue.Queued, task: Task, folder: Path) -> Status:
    if job.state == "PENDING":
        return Status(task.id, "pending", f"job {job.id}: {job.reason}")
    return Status(task.id, "running", f"job {job.id}: {_how_far(folder)}")


def _ended(cluster: Cluster, task: Task, job: str, here: Status, gone: Mapping[str, str]) -> Status:
    """A task whose job is over without an artifact. Array tasks cancelled while pending have no account."""
    log = cluster.log_of(task, job)
    how = gone.get(job, "FAILED" if here.state == "failed" or log.is_file() else "CANCELLED")
    if how == "COMPLETED":  # but what it made is gone, or no longer what is wanted
        return here
    again = f"again: tiebreak run {cluster.work.arguments} --on slurm"
    if how == "CANCELLED":
        return Status(task.id, "cancelled", f"job {job}; {again}")
    why = here.detail if here.state == "failed" else _last_lines(log)
    return Status(task.id, "failed", f"job {job}, {how}: {why}\n{again}")


def _last_lines(log: Path) -> str:
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return f"no log at {log}"
    return "\n".join([f"the end of {log}:", *lines[-LAST_LINES:]])
