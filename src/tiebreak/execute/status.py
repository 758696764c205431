"""What each task of a recipe is doing now, from its folder alone."""

from dataclasses import dataclass

from tiebreak.execute import progress
from tiebreak.execute.artifacts import is_locked
from tiebreak.execute.plan import plan
from tiebreak.execute.progress import duration
from tiebreak.execute.workspace import Workspace


@dataclass(frozen=True)
class Status:
    """`state` is running, done, failed, missing or stale."""

    task: str
    state: str
    detail: str


def status(work: Workspace) -> list[Status]:
    """The status of every task, in order."""
    return [_of(work, state.task.id, state.status, state.reason) for state in plan(work)]


def _of(work: Workspace, task_id: str, state: str, reason: str) -> Status:
    task = work.find(task_id)
    folder = work.folder(task)
    if state == "fresh":
        manifest = work.manifest(task)
        return Status(task_id, "done", f"in {duration(manifest.seconds)}" if manifest else "")
    if is_locked(folder):
        reading = progress.read(folder)
        return Status(task_id, "running", reading.line() if reading else "starting")
    if reason.startswith("failed: "):
        return Status(task_id, "failed", reason.removeprefix("failed: "))
    return Status(task_id, state, reason)
