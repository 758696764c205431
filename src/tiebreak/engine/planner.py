"""Planner of runs: the state of each task, fresh, missing or stale, with its reason."""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from tiebreak.engine.artifacts import (
    FAILURE,
    InputRecord,
    Manifest,
    find_damage,
    has_checkpoint,
    newest_manifest,
)
from tiebreak.engine.workspace import Workspace
from tiebreak.errors import TiebreakError, nearest
from tiebreak.pipeline.graph import Task

_THREADS = 32
"""Reading side by side; they mostly wait."""


@dataclass(frozen=True)
class Failed:
    """The reason of a task whose last attempt ended with an error."""

    error: str

    def __str__(self) -> str:
        return f"failed: {self.error}"


class Damaged(str):
    """The reason of a task whose artifact is not what was written: the problem."""

    __slots__ = ()


@dataclass(frozen=True)
class State:
    """State of a task. Missing: no artifact. Stale: an outdated one."""

    task: Task
    status: Literal["fresh", "missing", "stale"]
    reason: str | Failed = ""

    @property
    def is_readable(self) -> bool:
        """False where there is nothing for other tasks to read, or it is damaged."""
        return self.status != "missing" and not isinstance(self.reason, Damaged)


def plan(work: Workspace, steps: Sequence[str] = ()) -> list[State]:
    """The states of the chosen steps' tasks (all if none is named), in order."""
    return states(work, select(work, steps))


def states(work: Workspace, tasks: Sequence[Task]) -> list[State]:
    """The states of tasks, side by side: on a network file system each takes several round trips."""
    snapshot = work.snapshot()
    for task in tasks:
        snapshot.key(task)  # once, before threads would compute it side by side
    with ThreadPoolExecutor(_THREADS) as pool:
        return list(pool.map(partial(state, snapshot), tasks))


def select(work: Workspace, steps: Sequence[str] = ()) -> list[Task]:
    """The tasks of some steps, and those of prerequisite steps. Raises TiebreakError for an unknown step."""
    known = dict.fromkeys(task.step.name for task in work.tasks)
    for step in steps:
        if step not in known:
            raise TiebreakError(f"no step {step!r} in {work.path}; {nearest(step, known)}")
    return [task for task in work.tasks if not steps or task.step.name in steps or task.step.is_prerequisite]


def state(work: Workspace, task: Task) -> State:
    """The state of a task; files written since it was made are read."""
    manifest = work.manifest(task)
    if manifest and manifest.key == work.key(task):
        if problem := find_damage(work.folder(task), manifest, only_rewritten=True):
            return State(task, "stale", Damaged(problem))
        changed = _changed_input(work, task, manifest)
        return State(task, "stale", changed) if changed else State(task, "fresh")
    folder = work.folder(task)
    if (folder / FAILURE).is_file():
        return State(task, "missing", Failed(_first_line((folder / FAILURE).read_text("utf-8"))))
    if has_checkpoint(folder, work.inputs(task)):
        return State(task, "missing", "unfinished, goes on from its checkpoint")
    older = newest_manifest(work.step_folder(task), task.name)
    if older is None:
        return State(task, "missing", "never made")
    return State(task, "stale", "; ".join(_differences(work, task, older)) or "made by another tiebreak")


def _first_line(text: str) -> str:
    return next(iter(text.splitlines()), "")


def _changed_input(work: Workspace, task: Task, manifest: Manifest) -> str | None:
    """The reason if an input was made again with another content since the task read it."""
    read = {record.origin: record.content for group in manifest.inputs.values() for record in group}
    for upstream in task.upstream():
        now = work.manifest(upstream)
        if now and upstream.id in read and now.content != read[upstream.id]:
            return f"{upstream.id} was made again and came out different"
    return None


def _differences(work: Workspace, task: Task, older: Manifest) -> Iterator[str]:
    if older.version != task.step.version:
        yield f"version of the step {older.version} -> {task.step.version}"
    before, now = _flattened(older.settings), _flattened(task.settings.model_dump(mode="json"))
    for key in dict.fromkeys((*before, *now)):
        if before.get(key) != now.get(key):
            yield f"{key} {before.get(key, 'unset')} -> {now.get(key, 'unset')}"
    inputs = work.inputs(task)
    for name in dict.fromkeys((*older.inputs, *inputs)):
        yield from _changed_inputs(name, older.inputs.get(name, ()), inputs.get(name, ()))


def _changed_inputs(name: str, before: Sequence[InputRecord], now: Sequence[InputRecord]) -> Iterator[str]:
    keys_before = {record.origin: record.key for record in before}
    keys_now = {record.origin: record.key for record in now}
    if sorted(keys_before.values()) == sorted(keys_now.values()):
        return
    for origin in keys_now:
        if origin not in keys_before:
            yield f"{name} now has {origin}"
        elif keys_before[origin] != keys_now[origin]:
            yield f"{name} {origin} changed"
    yield from (f"{name} no longer has {origin}" for origin in keys_before if origin not in keys_now)


def _flattened(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten nested mappings, keys joined by dots."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= _flattened(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat
