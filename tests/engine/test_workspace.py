"""Workspace: keys change exactly with what changes a result; sources are resolved or named as missing."""

import shutil
import stat
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import fake_steps
import gguf_files
import pytest
from tiny_models import base

from tiebreak.engine import workspace
from tiebreak.engine.workspace import Workspace, content_fingerprint
from tiebreak.errors import TiebreakError
from tiebreak.pipeline.graph import Source


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    return fake_steps.write(tmp_path / "run")


def keys(path: Path, *overrides: str) -> dict[str, str]:
    work = Workspace(path, overrides, fake_steps.tasks)
    return {task.id: work.key(task) for task in work.tasks}


def test_keys_do_not_depend_on_place_or_scheduling(recipe: Path, tmp_path: Path) -> None:
    before = keys(recipe)
    assert (
        keys(recipe, "compute.workers=7", "compute.log_every=1", "run_dir=elsewhere", "name=other") == before
    )
    moved = tmp_path / "moved"
    shutil.copytree(recipe.parent, moved)
    assert keys(moved / "recipe.yaml") == before


def test_a_setting_changes_its_task_and_those_that_read_it(recipe: Path) -> None:
    before, after = keys(recipe), keys(recipe, "seed=1")
    assert before["ingest/votes"] == after["ingest/votes"]
    changed = {task for task in before if before[task] != after[task]}
    assert changed == {"train/fold0", "train/fold1", "train/fold2", "join/all"}


def test_a_changed_source_changes_everything_after_it(recipe: Path) -> None:
    before = keys(recipe)
    (recipe.parent / "votes.txt").write_text("other votes")
    after = keys(recipe)
    assert all(before[task] != after[task] for task in before)


def test_a_step_with_a_new_version_has_another_key(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = keys(recipe)
    monkeypatch.setattr(fake_steps, "JOIN", replace(fake_steps.JOIN, version=2))
    after = keys(recipe)
    assert [task for task in before if before[task] != after[task]] == ["join/all"]


def test_fewer_folds_leave_the_keys_of_the_others(recipe: Path) -> None:
    before, after = keys(recipe), keys(recipe, "teach.folds=[1]")
    assert after["train/fold1"] == before["train/fold1"]
    assert after["join/all"] != before["join/all"]


def test_a_folder_counts_by_its_visible_files(tmp_path: Path) -> None:
    model = tmp_path / "model"
    (model / "sub").mkdir(parents=True)
    (model / "config.json").write_text("{}")
    before = content_fingerprint(model)
    (model / ".cache").mkdir()
    (model / ".cache" / "x").write_text("x")
    assert content_fingerprint(model) == before
    (model / "sub" / "more").write_text("x")
    assert content_fingerprint(model) != before


def test_a_large_model_file_counts_by_size_and_samples(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workspace, "_PIECES", 5)
    monkeypatch.setattr(workspace, "_PIECE", 10)
    weights = tmp_path / "weights"

    def of(content: bytes) -> str:
        weights.write_bytes(content)
        return content_fingerprint(tmp_path, whole=False)

    def with_ones(first: int, last: int) -> str:
        return of(bytes(int(first <= place <= last) for place in range(210)))

    before = of(bytes(210))
    assert with_ones(10, 49) == before  # the pieces begin at 0, 50, 100, 150 and 200
    for first, last in ((10, 199), (0, 0), (209, 209), *((first, first + 40) for first in range(170))):
        assert with_ones(first, last) != before
    assert of(bytes(211)) != before
    assert with_ones(0, 209) != before


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (Source("gone.csv"), "no file 'gone.csv': looked for .*gone.csv"),
        (Source("models/a/b", is_model=True), "no model folder 'models/a/b'.*owner/name"),
        (Source("empty", is_model=True), "is not a model folder: it has no config.json"),
    ],
)
def test_a_missing_source_is_a_clear_error(recipe: Path, source: Source, message: str) -> None:
    (recipe.parent / "empty").mkdir()
    with pytest.raises(TiebreakError, match=message):
        Workspace(recipe, (), fake_steps.tasks).fingerprint(source)


@pytest.mark.parametrize("location", ["modles/gemma", "./modles/gemma", "models/gema", "models/deep/gemma/"])
def test_a_mistyped_model_folder_is_told_what_lies_beside_it(
    recipe: Path, monkeypatch: pytest.MonkeyPatch, location: str
) -> None:
    for name in ("gemma", "llama"):
        shutil.copytree(base("llama"), recipe.parent / "models" / name, dirs_exist_ok=True)
    monkeypatch.setattr(
        "tiebreak.model.hub.commit", lambda *_: (_ for _ in ()).throw(TiebreakError("no such repo"))
    )
    with pytest.raises(
        TiebreakError, match=r"folder.*nearby, the likeliest first: models/gemma, models/llama$"
    ):
        Workspace(recipe, (), fake_steps.tasks).fingerprint(Source(location, is_model=True))


def test_a_hub_id_beside_no_model_folders_is_told_by_the_hub_alone(
    recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "tiebreak.model.hub.commit", lambda *_: (_ for _ in ()).throw(TiebreakError("no such repo"))
    )
    with pytest.raises(TiebreakError, match=r"^no such repo$"):
        Workspace(recipe, (), fake_steps.tasks).fingerprint(Source("owner/name", is_model=True))


def test_a_hub_model_counts_by_its_commit(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tiebreak.model.hub.commit", lambda repo, revision: f"{repo}-{revision}-commit")
    work = Workspace(recipe, (), fake_steps.tasks)
    source = Source("owner/name", "v1", is_model=True)
    assert work.fingerprint(source) == "hub:owner/name@owner/name-v1-commit"


def test_a_folder_has_priority_over_a_hub_id(recipe: Path) -> None:
    model = recipe.parent / "owner" / "name"
    shutil.copytree(base("llama"), model)
    assert Workspace(recipe, (), fake_steps.tasks).resolve(Source("owner/name", is_model=True)) == model


def test_a_data_set_of_the_hub_is_pinned_to_its_commit(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tiebreak.model.hub.commit", lambda repo, revision, kind: f"{kind}-{revision}")
    work = Workspace(recipe, (), fake_steps.tasks)
    source = Source("hub:owner/votes@v1:test")
    assert work.resolve(source) == Path("hub:owner/votes@dataset-v1:test")
    assert work.fingerprint(source) == "hub:owner/votes@dataset-v1:test"


def test_a_data_set_that_was_read_once_keeps_its_commit_offline(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ingest on a login node and the jobs without internet agree on keys."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.HfApi.repo_info", lambda *_, **__: SimpleNamespace(sha="0" * 40))
    source = Source("hub:owner/votes")
    before = Workspace(recipe, (), fake_steps.tasks).fingerprint(source)
    monkeypatch.setattr("huggingface_hub.HfApi.repo_info", lambda *_, **__: pytest.fail("asked the hub"))
    assert Workspace(recipe, (), fake_steps.tasks).fingerprint(source) == before
    assert before == f"hub:owner/votes@{'0' * 40}:train"


def test_a_gguf_file_becomes_a_model_folder_once(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One folder per run, named and keyed by the file's content, readable as the umask allows; new for other content."""
    pytest.importorskip("gguf", reason="the extra gguf is not installed")
    file = gguf_files.write(base("llama"), recipe.parent / "tiny.gguf")
    source = Source("tiny.gguf", is_model=True)
    work = Workspace(recipe, (), fake_steps.tasks)
    assert work.local(source) == file
    folder = work.resolve(source)
    assert folder.parent == work.run_dir / "models"
    assert folder.name.startswith("tiny-")
    assert work.fingerprint(source) == content_fingerprint(file)
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o644}
    made = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert work.resolve(source) == folder
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == made
    monkeypatch.setattr("tiebreak.model.gguf.convert", lambda _, to: to.mkdir())
    file.write_bytes(file.read_bytes() + b"more")
    again = Workspace(recipe, (), fake_steps.tasks).resolve(source)
    assert again != folder


def test_what_was_converted_is_enough_without_the_extra(
    recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as to look at a run elsewhere; but the folder that it became is looked at."""
    pytest.importorskip("gguf", reason="the extra gguf is not installed")
    gguf_files.write(base("llama"), recipe.parent / "tiny.gguf")
    source = Source("tiny.gguf", is_model=True)
    folder = Workspace(recipe, (), fake_steps.tasks).resolve(source)
    monkeypatch.setattr("tiebreak.model.gguf.find_spec", lambda name: None)
    assert Workspace(recipe, (), fake_steps.tasks).resolve(source) == folder
    (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:-1])
    with pytest.raises(TiebreakError, match=r"model\.safetensors .* breaks off: .*; delete it, and run: "):
        Workspace(recipe, (), fake_steps.tasks).fingerprint(source)


def test_a_damaged_model_of_the_hub_says_how_to_fetch_it_again(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    home = tmp_path / "cache" / "models--owner--name"
    shutil.copytree(base("llama"), home / "snapshots" / ("0" * 40))
    (home / "refs").mkdir()
    (home / "refs" / "main").write_text("0" * 40)
    source = Source("owner/name", is_model=True)
    assert Workspace(recipe, (), fake_steps.tasks).fingerprint(source) == f"hub:owner/name@{'0' * 40}"
    (home / "snapshots" / ("0" * 40) / "config.json").write_text("<html>")
    with pytest.raises(
        TiebreakError, match=f"run: hf cache rm model/owner/name, then: tiebreak fetch {recipe}"
    ):
        Workspace(recipe, (), fake_steps.tasks).fingerprint(source)


def test_a_gguf_file_that_is_refused_leaves_no_folder(recipe: Path) -> None:
    (recipe.parent / "tiny.gguf").write_bytes(b"GGUF")
    work = Workspace(recipe, (), fake_steps.tasks)
    with pytest.raises(TiebreakError, match=r"tiny\.gguf as GGUF: it breaks off"):
        work.resolve(Source("tiny.gguf", is_model=True))
    assert not work.run_dir.exists()
