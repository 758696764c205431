"""Commands killed at random moments, again and again: in the end they have made what an undisturbed one makes."""

import random
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import nightly
import pytest
import short_run
from forked import Tiebreak
from short_run import SETS, SETTINGS

from tiebreak.commands.outputs import model_folder
from tiebreak.engine.workspace import Workspace
from tiebreak.hashes import file_digest

pytestmark = pytest.mark.nightly


@pytest.fixture(scope="session")
def undisturbed(once: Callable[..., Path]) -> Path:
    return short_run.undisturbed(once)


def hashes(place: Path) -> dict[str, str]:
    """Of a file or the files of a folder, but for what a dead process had half written."""
    files = [place] if place.is_file() else sorted(path for path in place.rglob("*") if path.is_file())
    return {
        str(file.relative_to(place.parent)): file_digest(file)
        for file in files
        if not any(part.endswith(".partial") for part in file.parts)
    }


def payload(recipe: Path) -> dict[str, object]:
    """The files of every task of a finished run by hash; fails where a task is not finished."""
    work = Workspace(recipe, SETTINGS)
    found = {task.id: work.manifest(task) for task in work.tasks}
    return {task: made.files if made else None for task, made in found.items()}


def kill(
    command: list[object], kills: int, begin_again: Callable[[], None], is_sound: Callable[[], bool]
) -> None:
    """Kill a command so often, any time before the end; after each kill what is there is sound; then let it finish.

    One that is quicker than the kill begins again from nothing.
    """
    began, killed, done = time.monotonic(), 0, 0
    Tiebreak(*command).finish()
    seconds = time.monotonic() - began
    begin_again()
    moments = random.Random(str(command[0]))
    while killed < kills:
        process = Tiebreak(*command)
        time.sleep(moments.uniform(0, min(seconds, 10)))
        process.kill()
        _, errors = process.communicate(60)
        if process.returncode == -signal.SIGKILL:
            killed += 1
            assert is_sound(), f"after kill {killed} of {command}"
        else:
            assert process.returncode == 0, errors
            done += 1
            begin_again()
    Tiebreak(*command).finish()
    seconds = time.monotonic() - began
    nightly.add(
        f"killed: {command[0]}", killed, seconds, f"finished {done} times between kills" if done else ""
    )


def test_runs(undisturbed: Path, tmp_path: Path) -> None:
    run = tmp_path / "votes"
    shutil.copytree(undisturbed, run, symlinks=True, ignore=shutil.ignore_patterns("run"))
    command = ["run", run / "recipe.yaml", *SETS]
    kill(command, 60, lambda: shutil.rmtree(run / "run"), lambda: True)
    assert payload(run / "recipe.yaml") == payload(undisturbed / "recipe.yaml")
    model = model_folder(run / "recipe.yaml", SETTINGS)
    assert hashes(model) == hashes(model_folder(undisturbed / "recipe.yaml", SETTINGS))
    assert not list(run.rglob("checkpoint")), "no scratch is left"


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".jsonl"])
def test_predictions(undisturbed: Path, tmp_path: Path, suffix: str) -> None:
    model = model_folder(undisturbed / "recipe.yaml", SETTINGS)
    pairs, expected, output = (
        undisturbed / "data" / "test.parquet",
        tmp_path / f"e{suffix}",
        tmp_path / f"p{suffix}",
    )
    Tiebreak("predict", model, pairs, "-o", expected).finish()
    command = ["predict", model, pairs, "-o", output]
    check_output(command, 20, output, expected)


def test_reports(undisturbed: Path, tmp_path: Path) -> None:
    expected, output = tmp_path / "e.html", tmp_path / "r.html"
    command = ["report", undisturbed / "recipe.yaml", *SETS, "-o"]
    Tiebreak(*command, expected).finish()
    check_output([*command, output], 40, output, expected)


def check_output(command: list[object], kills: int, output: Path, expected: Path) -> None:
    """Kill a command that writes a file: it is not there, or whole."""
    whole = file_digest(expected)
    kill(command, kills, output.unlink, lambda: not output.exists() or file_digest(output) == whole)
    assert file_digest(output) == whole
    left = {path.name for path in output.parent.iterdir() if not path.name.endswith(".partial")}
    assert left == {output.name, expected.name}, "nothing is left but what goes after an hour"


def test_new_recipes(undisturbed: Path, tmp_path: Path) -> None:
    folder = tmp_path / "votes"
    inputs = [undisturbed / name for name in ("data", "models", "recipe.yaml")]
    expected = {f"votes/{name}": found for place in inputs for name, found in hashes(place).items()}
    command = ["init", folder, "--preset", "tiny", "--synthetic", short_run.VOTES]
    kill(
        command,
        40,
        lambda: shutil.rmtree(folder),
        lambda: not (folder / "recipe.yaml").exists() or hashes(folder) == expected,
    )
    assert hashes(folder) == expected
