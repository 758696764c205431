"""Killed at any moment and started again, a run redoes only what was not finished and ends the same."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fake_steps
import pytest

pytestmark = pytest.mark.slow


def start(recipe: Path, *arguments: str, sleep: float = 0.01) -> subprocess.Popen[str]:
    """`tiebreak run` over the fake steps, in a process group of its own."""
    environment = os.environ | {"PYTHONPATH": str(Path(fake_steps.__file__).parent), "FAKE_SLEEP": str(sleep)}
    return subprocess.Popen(
        [sys.executable, "-c", fake_steps.COMMAND, "run", str(recipe), *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def finish(recipe: Path) -> str:
    run = start(recipe, sleep=0)
    _, errors = run.communicate(timeout=120)
    assert run.returncode == 0, errors
    return errors


def wait_for(recipe: Path, pattern: str) -> None:
    deadline = time.monotonic() + 60
    while not list((recipe.parent / "run").glob(pattern)):
        assert time.monotonic() < deadline, f"no {pattern}"
        time.sleep(0.01)


@pytest.fixture(scope="session")
def undisturbed(once: Callable[..., Path]) -> dict[str, object]:
    folder = once("undisturbed fakes", lambda folder: finish(fake_steps.write(folder)))
    return fake_steps.payload(folder / "run")


def test_random_kills_lose_nothing(tmp_path: Path, undisturbed: dict[str, object]) -> None:
    recipe = fake_steps.write(tmp_path / "killed")
    run_dir = recipe.parent / "run"
    kills = 0
    while kills < 5 or len(fake_steps.payload(run_dir)) < len(undisturbed):
        if len(fake_steps.payload(run_dir)) == len(undisturbed):  # quicker than the kills: once more
            shutil.rmtree(run_dir)
        further = steps_done(run_dir) + random.randint(1, 15)
        run = start(recipe)
        while run.poll() is None and steps_done(run_dir) < further:
            time.sleep(0.005)
        run.kill()
        _, errors = run.communicate()
        assert "error" not in errors
        kills += run.returncode == -signal.SIGKILL
    assert fake_steps.payload(run_dir) == undisturbed


def steps_done(run_dir: Path) -> int:
    """How far a run has come: finished artifacts and steps of unfinished ones."""
    states = (_json(path) for path in run_dir.glob("artifacts/train/*/checkpoint/state.json"))
    return fake_steps.STEPS * len(fake_steps.payload(run_dir)) + sum(state.get("step", 0) for state in states)


def _json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text())  # type: ignore[no-any-return]
    except FileNotFoundError:  # finished in the meantime
        return {}


def test_a_worker_dies_with_its_run(tmp_path: Path) -> None:
    recipe = fake_steps.write(tmp_path)
    run = start(recipe, sleep=60)
    wait_for(recipe, "artifacts/train/*/progress.json")
    run.kill()
    run.communicate()
    finish(recipe)


def test_a_second_ctrl_c_stops_at_once_and_says_how_to_go_on(
    tmp_path: Path, undisturbed: dict[str, object]
) -> None:
    recipe = fake_steps.write(tmp_path / "stopped")
    run = start(recipe, sleep=60)
    wait_for(recipe, "artifacts/train/*/progress.json")
    run.send_signal(signal.SIGINT)
    assert run.stderr is not None
    said = next(line for line in run.stderr if "Ctrl-C" in line)
    assert said.endswith("saving a checkpoint; Ctrl-C again to stop at once\n")
    run.send_signal(signal.SIGINT)
    _, errors = run.communicate(timeout=60)
    assert run.returncode == 130
    last = (
        "stopped at once, as far as the last checkpoints, nothing finished is lost; go on with: tiebreak run"
    )
    assert errors.splitlines()[-1] == f"{last} {recipe}"
    assert "Traceback" not in errors
    finish(recipe)
    assert fake_steps.payload(recipe.parent / "run") == undisturbed


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGUSR1, 138)]
)
def test_a_signal_saves_checkpoints_and_says_how_to_go_on(
    tmp_path: Path, undisturbed: dict[str, object], hold: Path, number: int, code: int
) -> None:
    recipe = fake_steps.write(tmp_path / "stopped")
    hold.write_text("1")
    run = start(recipe)
    wait_for(recipe, "artifacts/train/*/checkpoint/state.json")
    run.send_signal(number)
    _, errors = run.communicate(timeout=60)
    assert run.returncode == code
    assert errors.splitlines()[-1].endswith(f"go on with: tiebreak run {recipe}")
    assert "Traceback" not in errors
    assert list((recipe.parent / "run").glob("artifacts/train/*/checkpoint/state.json"))
    hold.write_text("")
    finish(recipe)
    assert fake_steps.payload(recipe.parent / "run") == undisturbed


def test_two_runs_at_once_do_everything_once(tmp_path: Path, undisturbed: dict[str, object]) -> None:
    recipe = fake_steps.write(tmp_path / "both")
    runs = [start(recipe, sleep=0.01) for _ in range(2)]
    errors = [run.communicate(timeout=120)[1] for run in runs]
    assert [run.returncode for run in runs] == [0, 0], errors
    assert fake_steps.payload(recipe.parent / "run") == undisturbed


def test_a_second_run_waits_for_what_the_first_holds(tmp_path: Path, undisturbed: dict[str, object]) -> None:
    recipe = fake_steps.write(tmp_path / "waits")
    first = start(recipe, sleep=60)
    wait_for(recipe, "artifacts/train/*/progress.json")
    second = start(recipe)
    assert second.stderr is not None
    told = next(line for line in second.stderr if "waits: " in line)
    assert "is being written by process" in told
    first.kill()
    first.communicate()
    second.communicate(timeout=120)
    assert second.returncode == 0
    assert fake_steps.payload(recipe.parent / "run") == undisturbed
