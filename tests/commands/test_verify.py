"""Every file is read: damage that neither size nor time betrays is found, with the command that mends it."""

import os
import shutil
from pathlib import Path

import fake_steps
import pytest

from tiebreak.commands import verify
from tiebreak.engine import local_runner
from tiebreak.engine.planner import plan
from tiebreak.engine.task_runner import run_task
from tiebreak.engine.workspace import Workspace
from tiebreak.errors import TiebreakError
from tiebreak.judge import package
from tiebreak.recipe.schema import Prompt, Tta


@pytest.fixture
def done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """A recipe whose every task has run."""
    monkeypatch.setattr(verify, "Workspace", lambda path, sets: Workspace(path, sets, fake_steps.tasks))
    work = Workspace(fake_steps.write(tmp_path), (), fake_steps.tasks)
    local_runner.run(work, work.tasks)
    return work


def damage(file: Path) -> None:
    """Change a byte and nothing that the file system tells of."""
    times = file.stat().st_atime_ns, file.stat().st_mtime_ns
    with file.open("r+b") as opened:
        opened.write(b"~")
    os.utime(file, ns=times)


def test_what_was_made_is_whole(done: Workspace) -> None:
    found = list(verify.verify(done.path))
    assert [row.name for row in found] == [task.id for task in done.tasks]
    assert {row.state for row in found} == {"whole"}
    assert {row.state for row in verify.verify(done.path.parent, ["seed=1"])} == {"whole", "missing"}


def test_damage_is_found_and_the_command_mends_it(done: Workspace) -> None:
    damage(done.folder(done.find("train/fold1")) / "weights.bin")
    assert {state.status for state in plan(done)} == {"fresh"}, "a plan does not read"
    (row,) = (row for row in verify.verify(done.path) if row.state != "whole")
    assert (row.name, row.state) == ("train/fold1", "damaged")
    assert row.problem == "weights.bin is damaged: its content is not what was written"
    assert row.mend == f"make it again with: tiebreak task {done.path} train/fold1 --redo"
    run_task(done, done.find("train/fold1"), lambda line: None, lambda: False, redo=True)
    assert {row.state for row in verify.verify(done.path)} == {"whole"}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A folder with a package and another file."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"weights")
    package.write(package.Package(prompt=Prompt(), tta=Tta(), calibration={"temperature": 1.0}), folder)
    return folder


def test_a_model_folder_verifies_itself_wherever_it_is(model: Path, tmp_path: Path) -> None:
    moved = Path(shutil.copytree(model, tmp_path / "elsewhere"))
    (row,) = verify.verify(moved)
    assert (row.name, row.state) == (str(moved), "whole")
    damage(moved / "model.safetensors")
    (row,) = verify.verify(moved)
    assert (row.state, row.problem) == ("damaged", "the content of model.safetensors is not what was written")
    assert "copy the whole folder again" in row.mend
    (moved / "model.safetensors").unlink()
    (row,) = verify.verify(moved)
    assert row.problem == "it has no model.safetensors"
    assert next(verify.verify(model)).state == "whole"


def test_a_folder_without_hashes_is_not_called_whole(model: Path) -> None:
    bare = package.read(model).model_copy(update={"files": {}})
    (model / package.NAME).write_text(bare.model_dump_json())
    with pytest.raises(TiebreakError, match="records no hashes"):
        list(verify.verify(model))
    with pytest.raises(TiebreakError, match="no model folder at"):
        list(verify.verify(model / "nowhere"))
