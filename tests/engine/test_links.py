"""A tree outside a run, with links into it from everywhere in the run: nothing in it ever changes."""

import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import fake_steps
import pytest

from tiebreak.commands import verify
from tiebreak.commands.status import task_statuses
from tiebreak.engine import artifacts, local_runner, progress
from tiebreak.engine.planner import plan
from tiebreak.engine.task_runner import run_task
from tiebreak.engine.workspace import Workspace
from tiebreak.errors import Interrupted, TiebreakError

pytestmark = pytest.mark.slow


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    folder = tmp_path / "canary"
    (folder / "deep").mkdir(parents=True)
    for name in ("file", "deep/file"):
        (folder / name).write_text("dear")
        (folder / name).chmod(0o600)
    return folder


def tree(folder: Path) -> dict[str, tuple[int, int, bytes]]:
    """Mode, time and content of all that is in a folder, itself included."""
    found = {}
    for path in (folder, *folder.rglob("*")):
        seen = path.lstat()
        found[str(path)] = seen.st_mode, seen.st_mtime_ns, path.read_bytes() if path.is_file() else b""
    return found


@pytest.fixture
def work(tmp_path: Path) -> Workspace:
    return Workspace(fake_steps.write(tmp_path / "a"), ("compute.workers=1",), fake_steps.tasks)


def use(work: Workspace) -> None:
    """Plan, look, run and verify, as far as that is not refused."""
    fresh = Workspace(work.path, work.overrides, fake_steps.tasks)
    for command in (
        lambda: plan(fresh),
        lambda: task_statuses(fresh),
        lambda: list(verify._artifacts(fresh)),
        lambda: local_runner.run(fresh, fresh.tasks),
        lambda: run_task(fresh, fresh.tasks[0], print, lambda: False, redo=True),
        fresh.freeze,
    ):
        with suppress(TiebreakError):
            command()


@pytest.mark.parametrize(
    "place", ["artifacts", "artifacts/ingest", "logs", "logs/train-fold0.log", "models", "slurm"]
)
def test_a_link_in_place_of_a_folder_of_the_run_is_not_followed(
    work: Workspace, canary: Path, place: str
) -> None:
    link = work.run_dir / place
    link.parent.mkdir(parents=True)
    link.symlink_to(canary / "file" if place.endswith("log") else canary)
    before = tree(canary)
    use(work)
    assert tree(canary) == before


@pytest.mark.parametrize("made", [False, True], ids=["missing", "whole"])
def test_a_link_in_place_of_an_artifact_is_refused(work: Workspace, canary: Path, made: bool) -> None:
    folder = work.folder(work.find("train/fold1"))
    if made:  # where it points to there is a whole artifact, such as another run's
        local_runner.run(work, work.tasks)
        shutil.move(folder, canary / "moved")
        folder.symlink_to(canary / "moved")
    else:
        folder.parent.mkdir(parents=True)
        folder.symlink_to(canary)
    before = tree(canary)
    with pytest.raises(TiebreakError, match=f"^{folder} is a link"):
        plan(work)
    use(work)
    assert tree(canary) == before


def test_links_in_an_artifact_are_replaced(work: Workspace, canary: Path) -> None:
    """Those of a task that was stopped, whatever they are called, and wherever they point to."""
    folders = [work.folder(task) for task in work.tasks]
    for folder in folders:
        folder.mkdir(parents=True)
        for name in (artifacts.LOCK, artifacts.PROGRESS, artifacts.FAILURE, "weights.bin", "half.txt"):
            (folder / name).symlink_to(canary / "file")
        for name in (artifacts.SCRATCH, "deep"):
            (folder / name).symlink_to(canary / "deep")
    before = tree(canary)
    use(work)
    assert tree(canary) == before
    assert {state.status for state in plan(work)} == {"fresh"}
    assert not [path for folder in folders for path in folder.rglob("*") if path.is_symlink()]


def test_pipes_in_an_artifact_are_replaced_and_waited_for_by_nothing(work: Workspace, canary: Path) -> None:
    folders = [work.folder(task) for task in work.tasks]
    for folder in folders:
        folder.mkdir(parents=True)
        names = (artifacts.LOCK, artifacts.PROGRESS, artifacts.FAILURE, artifacts.MANIFEST, artifacts.SCRATCH)
        for name in (*names, "weights.bin"):
            os.mkfifo(folder / name)
        assert not artifacts.is_locked(folder)
        assert progress.read(folder) is None
    plan(work)
    use(work)
    assert {state.status for state in plan(work)} == {"fresh"}
    assert not [path for folder in folders for path in folder.rglob("*") if path.is_fifo()]


def test_links_in_a_checkpoint_are_replaced(work: Workspace, canary: Path) -> None:
    run_task(work, work.tasks[0], print, lambda: False)
    task = work.find("train/fold0")
    with pytest.raises(Interrupted):
        run_task(work, task, print, lambda: True)
    state = work.folder(task) / artifacts.SCRATCH / "state.json"
    shutil.copy(state, canary / "file")
    state.unlink()
    state.symlink_to(canary / "file")
    before = tree(canary)
    run_task(work, task, print, lambda: False)
    assert tree(canary) == before


def test_making_a_payload_readable_follows_no_link(canary: Path, tmp_path: Path) -> None:
    folder = tmp_path / "artifact"
    folder.mkdir()
    (folder / "weights.bin").symlink_to(canary / "file")
    before = tree(canary)
    artifacts.make_readable(folder)
    assert artifacts.payload(folder) == []
    assert tree(canary) == before


def test_the_run_folder_itself_may_be_a_link(work: Workspace, tmp_path: Path) -> None:
    (tmp_path / "big disk").mkdir()
    work.run_dir.symlink_to(tmp_path / "big disk")
    assert len(local_runner.run(work, work.tasks).done) == 5
    assert (tmp_path / "big disk" / "artifacts").is_dir()


@pytest.mark.parametrize("name", ["../../../canary/file", "/etc/passwd"])
def test_a_manifest_names_files_of_its_artifact_alone(work: Workspace, name: str) -> None:
    local_runner.run(work, work.tasks)
    manifest = work.folder(work.find("join/all")) / artifacts.MANIFEST
    manifest.write_text(manifest.read_text().replace('"all.txt"', f'"{name}"'))
    assert artifacts.read_manifest(manifest.parent) is None


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir], ids=["pipe", "folder"])
def test_what_is_no_file_is_no_manifest(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / artifacts.MANIFEST)
    assert artifacts.read_manifest(tmp_path) is None
