"""The nine steps themselves, killed three times each: the artifacts are an undisturbed run's, by hash."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tiebreak.execute.artifacts import Manifest, read_manifest
from tiebreak.execute.start import start
from tiebreak.execute.workspace import Workspace
from tiebreak.pipeline import Task

KILLS_A_TASK = 3
SETTINGS = (
    "compute.workers=1",
    "compute.device=cpu",
    "compute.checkpoint_minutes=0",
    "compute.train_tokens=1024",
    "post_pretrain.subset_rows=64",
    "post_pretrain.training.rows_per_step=8",
    "teach.training.epochs=1",
    "distill.training.epochs=1",
    "quantize.calibration_rows=8",
    "evaluate.bootstrap_samples=20",
)


def command(recipe: Path) -> list[str]:
    sets = [part for setting in SETTINGS for part in ("--set", setting)]
    return [sys.executable, "-c", "from tiebreak.cli import main; main()", "run", str(recipe), *sets]


def launch(recipe: Path) -> subprocess.Popen[str]:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command(recipe), env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def finish(recipe: Path) -> None:
    run = launch(recipe)
    _, errors = run.communicate(timeout=600)
    assert run.returncode == 0, errors


def manifest(work: Workspace, task: Task) -> Manifest:
    found = read_manifest(work.folder(task))
    assert found is not None, f"{task.id} is not finished"
    return found


def kill_in(recipe: Path, work: Workspace, task: Task, delay: float) -> bool:
    """Run, and kill the run `delay` seconds after it has begun the task. False if it ended before."""
    folder = work.folder(task)
    run = launch(recipe)
    while run.poll() is None and not (folder / ".lock").exists():
        time.sleep(0.01)
    time.sleep(delay)
    run.kill()
    run.communicate()
    return run.returncode == -signal.SIGKILL


@pytest.mark.slow
def test_steps_killed_at_any_moment_end_the_same(tmp_path: Path) -> None:
    undisturbed = Workspace(start(tmp_path / "same" / "votes", "tiny", synthetic=160), SETTINGS)
    finish(undisturbed.path)
    killed = Workspace(start(tmp_path / "killed" / "votes", "tiny", synthetic=160), SETTINGS)
    for task in killed.tasks:
        seconds = manifest(undisturbed, undisturbed.find(task.id)).seconds
        kills = 0
        while kills < KILLS_A_TASK:
            if kill_in(killed.path, killed, task, random.uniform(0, seconds)):
                kills += 1
            else:  # the run was quicker: as if it had been killed just before the end
                (killed.folder(task) / "manifest.json").unlink()
    finish(killed.path)
    assert KILLS_A_TASK * len(killed.tasks) >= 50
    for task in killed.tasks:
        assert manifest(killed, task).files == manifest(undisturbed, undisturbed.find(task.id)).files, task.id
