"""The nine steps themselves, killed at any moment: the artifacts are an undisturbed run's, by hash."""

import random
import shutil
import signal
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
import short_run
from forked import Tiebreak
from short_run import SETS, SETTINGS

from tiebreak.engine.artifacts import SCRATCH, Manifest, read_manifest
from tiebreak.engine.workspace import Workspace
from tiebreak.pipeline.graph import STEPS, Task

KINDS = [step.name for step in STEPS]


@pytest.fixture(scope="session")
def undisturbed(once: Callable[..., Path]) -> Path:
    return short_run.undisturbed(once)


@pytest.fixture
def work(undisturbed: Path, tmp_path: Path) -> Workspace:
    shutil.copytree(undisturbed, tmp_path / "votes", symlinks=True)
    return Workspace(tmp_path / "votes" / "recipe.yaml", SETTINGS)


def manifest(work: Workspace, task: Task) -> Manifest:
    found = read_manifest(work.folder(task))
    assert found is not None, f"{task.id} is not finished"
    return found


def kill_and_finish(work: Workspace, tasks: Iterable[Task], kills: int) -> None:
    """Make tasks again, each killed so often, any time after it began; it goes on where it was."""
    for task in tasks:
        folder, before = work.folder(task), manifest(work, task)
        moments = random.Random(task.id)
        shutil.rmtree(folder)
        killed, seconds = 0, before.seconds
        while killed < kills:
            command = Tiebreak("task", work.path, task.id, *SETS)
            while command.poll() is None and not (folder / ".lock").exists():
                time.sleep(0.001)
            time.sleep(moments.uniform(0, seconds))
            command.kill()
            _, errors = command.communicate()
            if command.returncode == -signal.SIGKILL:
                killed += 1
            else:  # it was quicker: as if it had been killed just before the end
                assert command.returncode == 0, errors
                (folder / "manifest.json").unlink()
                seconds /= 2
        Tiebreak("task", work.path, task.id, *SETS).finish()
        assert manifest(work, task).files == before.files, task.id
        assert not (folder / SCRATCH).exists()


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_step_that_is_killed_ends_the_same(kind: str, work: Workspace) -> None:
    kill_and_finish(work, [task for task in work.tasks if task.step.name == kind][:1], kills=1)


@pytest.mark.thorough
@pytest.mark.parametrize("kind", KINDS)
def test_every_task_killed_again_and_again_ends_the_same(kind: str, work: Workspace) -> None:
    kill_and_finish(work, [task for task in work.tasks if task.step.name == kind], kills=3)
