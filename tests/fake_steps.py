"""Fake pipeline steps that run quickly: read -> train (one task per fold) -> join.

`train` resumes from its checkpoint and stops on request, as real steps do. Environment variables make it fail:
FAKE_FAIL, FAKE_BUG, FAKE_FULL_DISK, FAKE_DIE, FAKE_LOSE and FAKE_TERM name a task, FAKE_SLEEP is the duration of each of its
steps; FAKE_SCORES adds a step; FAKE_DIE_ABOVE is the number of tokens in a forward up to which FAKE_DIE and FAKE_LOSE (one of its processes) do nothing. It pauses by $HOLD (paused_training.py).
"""

import hashlib
import json
import os
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from paused_training import pause_at_step

from tiebreak.engine.artifacts import write_atomically
from tiebreak.engine.workspace import Workspace
from tiebreak.errors import Interrupted, ProcessDied, TiebreakError
from tiebreak.pipeline.graph import Source, Task
from tiebreak.pipeline.step import Step
from tiebreak.recipe.schema import Recipe
from tiebreak.recipe.values import Slice
from tiebreak.runtime import TRAIN_TOKENS, Runtime

STEPS = 20
Inputs = Mapping[str, tuple[Path, ...]]


class Settings(Slice):
    seed: int = 0
    fold: int = 0


def _read(settings: Settings, inputs: Inputs, output: Path, runtime: Runtime) -> dict[str, Any]:
    (output / "deep").mkdir()
    (output / "deep" / "text.txt").write_text(inputs["files"][0].read_text())
    return {"files": len(inputs["files"])}


def _train(settings: Settings, inputs: Inputs, output: Path, runtime: Runtime) -> dict[str, Any]:
    task = f"train/fold{settings.fold}"
    (output / "half.txt").write_text("half written")
    _fail_on_request(task, runtime.train_tokens or TRAIN_TOKENS)
    checkpoint = runtime.scratch / "state.json"
    state: dict[str, Any] = (
        json.loads(checkpoint.read_text())
        if checkpoint.exists()
        else {"step": 0, "value": str(settings.seed)}
    )
    read = inputs["text"][0] / "deep" / "text.txt"
    text = (read if read.exists() else inputs["text"][0] / "weights.bin").read_text()
    while state["step"] < STEPS:
        value = hashlib.sha256((state["value"] + text + task).encode()).hexdigest()
        state = {"step": state["step"] + 1, "value": value}
        write_atomically(checkpoint, json.dumps(state))
        runtime.report("training", state["step"], STEPS, "steps", loss=1.0)
        time.sleep(float(os.environ.get("FAKE_SLEEP", "0")))
        pause_at_step(state["step"], runtime.should_stop)
        if runtime.should_stop():
            raise Interrupted
    (output / "weights.bin").write_text(state["value"] * 10)
    (output / "half.txt").unlink()
    print("a library talks")
    return {"steps": STEPS}


def _join(settings: Settings, inputs: Inputs, output: Path, runtime: Runtime) -> dict[str, Any]:
    together = "".join((folder / "weights.bin").read_text() for folder in inputs["parts"])
    (output / "all.txt").write_text(together)
    return {"length": len(together)}


def _fail_on_request(task: str, train_tokens: int) -> None:
    if os.environ.get("FAKE_FAIL") == task:
        raise TiebreakError("this fold does not train")
    if os.environ.get("FAKE_BUG") == task:
        raise ValueError("a mistake of ours")
    if train_tokens > int(os.environ.get("FAKE_DIE_ABOVE", "0")):
        if os.environ.get("FAKE_DIE") == task:
            os.kill(os.getpid(), signal.SIGKILL)
        if os.environ.get("FAKE_LOSE") == task:
            raise ProcessDied("process 1 of 2 was killed by SIGKILL")
    if os.environ.get("FAKE_TERM") == task:
        os.kill(os.getpid(), signal.SIGTERM)
    if os.environ.get("FAKE_FULL_DISK") == task:
        with open("/dev/full", "w") as full:
            full.write("x" * 10**6)


READ, TRAIN, JOIN = (
    Step("ingest", 1, _read, is_prerequisite=True),
    Step("train", 1, _train, trains=True),
    Step("join", 1, _join, shows=("all.txt",)),
)


def tasks(recipe: Recipe) -> tuple[Task, ...]:
    """The graph; ingest keeps its name, as a step that runs whenever it is missing."""
    read = Task(READ, "votes", Settings(), {"files": tuple(Source(path) for path in recipe.data.votes)})
    trained = tuple(
        Task(TRAIN, f"fold{fold}", Settings(seed=recipe.seed, fold=fold), {"text": (read,)})
        for fold in recipe.folds("teach")
    )
    return read, *trained, Task(JOIN, "all", Settings(), {"parts": trained})


def tasks_with_scores(recipe: Recipe) -> tuple[Task, ...]:
    """The graph with a step in the middle, each of whose tasks reads one of `train`."""
    score = replace(TRAIN, name="score")
    read, *trained, _ = tasks(recipe)
    scored = [Task(score, task.name, task.settings, {"text": (task,)}) for task in trained]
    return (read, *trained, *scored, Task(JOIN, "all", Settings(), {"parts": (*trained, *scored)}))


RECIPE = """
name: fake
data: {votes: [votes.txt]}
models: {teachers: {llama: {base: models/llama}}, student: {base: models/gemma}}
split: {count: 3}
compute: {device: cpu, workers: 2}
"""


COMMAND = """
import fake_steps
from tiebreak import cli
fake_steps.use(setattr)
cli.main()
"""
"""The `tiebreak` command with these steps: for python -c, with this file's folder in PYTHONPATH."""


def use(set_attribute: Callable[[object, str, object], None]) -> None:
    """Make every workspace one of these steps, by `setattr` or pytest's."""
    init: Any = Workspace.__init__
    graph = tasks_with_scores if "FAKE_SCORES" in os.environ else tasks
    set_attribute(init, "__defaults__", (init.__defaults__[0], graph, *init.__defaults__[2:]))


def write(folder: Path) -> Path:
    """A recipe and its data."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "votes.txt").write_text("some votes")
    (folder / "recipe.yaml").write_text(RECIPE)
    return folder / "recipe.yaml"


def payload(run_dir: Path) -> dict[str, Any]:
    """Payload hashes of all artifacts of a run, by artifact."""
    manifests = sorted(run_dir.glob("artifacts/*/*/manifest.json"))
    return {
        str(path.parent.relative_to(run_dir)): json.loads(path.read_text())["files"] for path in manifests
    }
