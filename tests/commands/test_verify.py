"""Every file is read: damage that neither size nor time betrays is found, with the command that mends it."""

import os
import shutil
from dataclasses import replace
from pathlib import Path

import fake_steps
import pytest

from tiebreak.commands import verify
from tiebreak.engine import artifacts, local_runner
from tiebreak.engine.planner import plan
from tiebreak.engine.workspace import Workspace
from tiebreak.errors import TiebreakError
from tiebreak.judge import package
from tiebreak.recipe.schema import Prompt, Tta

pytestmark = pytest.mark.slow


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
    assert {row.state for row in verify.verify(done.path.parent, ["seed=1"])} == {"whole", "stale"}


def test_damage_is_found_and_the_command_mends_it(done: Workspace) -> None:
    damage(done.folder(done.find("train/fold1")) / "weights.bin")
    assert {state.status for state in plan(done)} == {"fresh"}, "a plan does not read"
    (row,) = (row for row in verify.verify(done.path) if row.state != "whole")
    assert (row.name, row.state) == ("train/fold1", "damaged")
    assert row.problem == "weights.bin is damaged: its content is not what was written"
    assert row.mend == f"make it again with: tiebreak run {done.path}"
    again = Workspace(done.path, (), fake_steps.tasks)
    assert [str(state.reason) for state in plan(again) if state.status == "stale"] == [row.problem]
    assert local_runner.run(again, again.tasks).done == ["train/fold1"]
    assert {row.state for row in verify.verify(done.path)} == {"whole"}


def test_artifacts_of_an_older_version_are_stale_and_read(
    tiebreak, done: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    older = done.folder(done.find("join/all"))
    monkeypatch.setattr(fake_steps, "JOIN", replace(fake_steps.JOIN, version=2))
    row = list(verify.verify(done.path))[-1]
    assert (row.name, row.state, row.problem) == ("join/all", "stale", "version of the step 1 -> 2")
    assert tiebreak("verify", done.path)[0] == 0
    damage(older / "all.txt")
    assert list(verify.verify(done.path))[-1].state == "damaged"
    code, _, err = tiebreak("verify", done.path)
    assert (code, err.startswith("join/all: all.txt is damaged")) == (2, True)
    (older / "manifest.json").write_text("{")
    assert list(verify.verify(done.path))[-1].problem == "manifest.json is damaged: it cannot be read"


def test_a_manifest_that_cannot_be_read_is_damage(done: Workspace) -> None:
    manifest = done.folder(done.find("join/all")) / "manifest.json"
    manifest.write_text(manifest.read_text()[:-20])
    row = list(verify.verify(done.path))[-1]
    assert (row.state, row.problem) == ("damaged", "manifest.json is damaged: it cannot be read")


def test_the_folder_of_a_run_stands_for_its_recipe(done: Workspace, tmp_path: Path) -> None:
    assert list(verify.verify(done.run_dir)) == list(verify.verify(done.path))
    shutil.move(done.run_dir, tmp_path / "elsewhere" / "run")
    with pytest.raises(TiebreakError, match="its recipe is not beside it"):
        list(verify.verify(tmp_path / "elsewhere" / "run"))


def test_what_cannot_be_marked_is_told_all_the_same(done: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    damage(done.folder(done.find("train/fold1")) / "weights.bin")

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(artifacts.os, "utime", refuse)
    assert [row.name for row in verify.verify(done.path) if row.state == "damaged"] == ["train/fold1"]


def test_the_exit_code_tells_damage_and_nothing_at_all(tiebreak, done: Workspace) -> None:
    assert tiebreak("verify", done.path)[0] == 0
    code, out, err = tiebreak("verify", done.path, "--set", "seed=1")
    assert (code, out.count("stale: seed 0 -> 1")) == (0, 3), "the votes are as they were"
    again = f"make it again with: tiebreak run {done.path} --set seed=1"
    assert err == f"train/fold0: seed 0 -> 1; {again}\n"
    damage(done.folder(done.find("train/fold1")) / "weights.bin")
    code, out, err = tiebreak("verify", done.path)
    assert (code, out.split().count("damaged")) == (2, 1)
    assert err.startswith("train/fold1: weights.bin is damaged")
    shutil.rmtree(done.run_dir)
    code, out, err = tiebreak("verify", done.path)
    assert (code, out.split().count("missing")) == (2, 5)
    assert err.endswith(f"tiebreak run {done.path}\n")


@pytest.mark.parametrize("place", ["", "empty", "file", "nowhere", "link to nowhere", "pipe", "folder"])
def test_what_is_neither_run_nor_model_is_one_line(tiebreak, tmp_path: Path, place: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "link to nowhere").symlink_to(tmp_path / "gone")
    for name, make in (("pipe", os.mkfifo), ("folder", os.mkdir)):
        (tmp_path / name).mkdir()
        make(tmp_path / name / package.NAME)
    code, out, err = tiebreak("verify", tmp_path / place)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert any(
        why in err for why in ("no model", "not a model", "is a pipe, not a file", "is a folder, not a file")
    )


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "..", "a/b"])
def test_a_package_names_files_of_its_folder_alone(model: Path, name: str) -> None:
    text = (model / package.NAME).read_text()
    (model / package.NAME).write_text(text.replace('"model.safetensors"', f'"{name}"'))
    with pytest.raises(TiebreakError, match="is no file of the folder"):
        list(verify.verify(model))


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


def test_a_model_in_a_run_names_the_commands_that_make_it_anew(model: Path, tmp_path: Path) -> None:
    assert package.again(model) == package.AGAIN
    (tmp_path / "recipe.yaml").touch()
    (tmp_path / "manifest.json").touch()
    place = tmp_path / "recipe.yaml"
    assert package.again(model) == f"make it anew with: tiebreak verify {place}; tiebreak run {place}"


def test_damage_of_an_outdated_artifact_beside_a_current_one_is_told(tiebreak, done: Workspace) -> None:
    older = done.folder(done.find("join/all"))
    now = Workspace(done.path, ("seed=1",), fake_steps.tasks)
    local_runner.run(now, now.tasks)
    assert {row.state for row in verify.verify(done.path, ["seed=1"])} == {"whole"}
    damage(older / "all.txt")
    *current, row = verify.verify(done.path, ["seed=1"])
    assert {found.state for found in current} == {"whole"}
    assert (row.name, row.state) == (f"join/all, outdated, in {older.name}", "damaged")
    assert row.mend == f"delete {older}, which nothing here needs"
    assert tiebreak("verify", done.path, "--set", "seed=1")[0] == 2
    shutil.rmtree(older)
    assert tiebreak("verify", done.path, "--set", "seed=1")[0] == 0
