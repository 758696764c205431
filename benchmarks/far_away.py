"""A run of 1,000 tasks on a file system where each operation takes a millisecond: operations and seconds of plan and status.

    python benchmarks/far_away.py [--tasks 1000] [--milliseconds 1]

Every open, stat, lstat, scandir, listdir and access of this process sleeps first, as a round trip to a file server does. Tasks
are those of a recipe with many folds, all of them made. Prints a table, then one JSON line.
"""

import argparse
import builtins
import io
import json
import os
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

from tiebreak.commands.status import task_statuses
from tiebreak.engine import planner
from tiebreak.engine.artifacts import Manifest, file_records
from tiebreak.engine.workspace import Workspace
from tiebreak.pipeline.graph import Source, Task
from tiebreak.pipeline.step import Step
from tiebreak.recipe.schema import Recipe
from tiebreak.recipe.values import Slice

OPERATIONS = [
    *((os, name) for name in ("stat", "lstat", "scandir", "listdir", "access", "open")),
    (builtins, "open"),
    (io, "open"),
]
RECIPE = """
name: far
data: {votes: [votes.txt]}
models: {teachers: {llama: {base: models/llama}}, student: {base: models/gemma}}
"""


class Settings(Slice):
    fold: int = 0


def graph(count: int) -> Callable[[Recipe], tuple[Task, ...]]:
    def nothing(*_: Any) -> dict[str, Any]:
        return {}

    first, train, score = (Step(name, 1, nothing) for name in ("ingest", "teach", "score"))

    def tasks(recipe: Recipe) -> tuple[Task, ...]:
        read = Task(first, "votes", Settings(), {"files": tuple(Source(path) for path in recipe.data.votes)})
        taught = [Task(train, f"fold{n}", Settings(fold=n), {"rows": (read,)}) for n in range(count // 2)]
        scored = [
            Task(score, f"fold{n}", Settings(fold=n), {"adapter": (task,), "rows": (read,)})
            for n, task in enumerate(taught)
        ]
        return (read, *taught, *scored)

    return tasks


def make(work: Workspace, task: Task) -> None:
    folder = work.folder(task)
    (folder / "adapter").mkdir(parents=True)
    for name in ("adapter/adapter_config.json", "adapter/adapter_model.safetensors", "curve.json"):
        (folder / name).write_text("{}")
    manifest = Manifest(
        step=task.step.name, name=task.name, version=1, key=work.key(task), settings=task.settings.model_dump(),
        inputs=work.inputs(task), files=file_records(folder), metrics={}, seconds=1, finished=0, versions={}, hardware={},
    )  # fmt: skip
    (folder / "manifest.json").write_text(manifest.model_dump_json())


@contextmanager
def slow_down(seconds: float, calls: Counter[str]) -> Iterator[None]:
    """Let this process's file operations wait, and count them."""

    def slowed(name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def slow(*arguments: Any, **options: Any) -> Any:
            calls[name] += 1
            time.sleep(seconds)
            return original(*arguments, **options)

        return slow

    with ExitStack() as stack:
        for module, name in OPERATIONS:
            stack.enter_context(patch.object(module, name, slowed(name, getattr(module, name))))
        yield


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--tasks", type=int, default=1000)
    parser.add_argument("--milliseconds", type=float, default=1.0)
    options = parser.parse_args()
    results = {}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        (folder / "votes.txt").write_text("votes")
        (folder / "recipe.yaml").write_text(RECIPE)
        work = Workspace(folder / "recipe.yaml", (), graph(options.tasks))
        for task in work.tasks:
            make(work, task)
        calls: Counter[str] = Counter()
        for name, command in (("plan", planner.plan), ("status", task_statuses)):
            calls.clear()
            fresh = Workspace(folder / "recipe.yaml", (), graph(options.tasks))
            began = time.perf_counter()
            with slow_down(options.milliseconds / 1000, calls):
                found = command(fresh)
            seconds = time.perf_counter() - began
            results[name] = {"tasks": len(found), "seconds": round(seconds, 2), "calls": dict(calls)}
            total, opens = sum(calls.values()), calls["open"]
            print(
                f"{name:8} {len(found)} tasks {seconds:6.2f} s {total:6} operations, of which {opens} opens"
            )
    print(json.dumps({"milliseconds": options.milliseconds} | results))


if __name__ == "__main__":
    main()
