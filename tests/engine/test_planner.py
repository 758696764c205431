"""Plans: the state of each task and its reason."""

import os
import re
from dataclasses import replace
from pathlib import Path

import fake_steps
import pytest

from tiebreak.engine import artifacts
from tiebreak.engine.planner import Failed, plan
from tiebreak.engine.task_runner import run_task
from tiebreak.engine.workspace import Workspace
from tiebreak.errors import TiebreakError


def workspace(path: Path, *overrides: str) -> Workspace:
    return Workspace(path, overrides, fake_steps.tasks)


def states(work: Workspace) -> dict[str, tuple[str, str]]:
    return {state.task.id: (state.status, state.reason) for state in plan(work)}


@pytest.fixture
def done(tmp_path: Path) -> Path:
    """A recipe whose every task has run."""
    path = fake_steps.write(tmp_path)
    work = workspace(path)
    for task in work.tasks:
        run_task(work, task, lambda line: None, lambda: False)
    return path


def test_a_task_without_an_artifact_is_missing(tmp_path: Path) -> None:
    found = states(workspace(fake_steps.write(tmp_path)))
    assert set(found.values()) == {("missing", "never made")}


def test_a_task_with_its_artifact_is_fresh(done: Path) -> None:
    assert set(states(workspace(done)).values()) == {("fresh", "")}


def test_a_changed_setting_is_named_with_both_values(done: Path) -> None:
    found = states(workspace(done, "seed=5"))
    assert found["ingest/votes"] == ("fresh", "")
    assert found["train/fold1"] == ("stale", "seed 0 -> 5")
    assert found["join/all"][1] == "; ".join(f"parts train/fold{fold} changed" for fold in range(3))


def test_a_changed_source_is_named(done: Path) -> None:
    (done.parent / "votes.txt").write_text("other votes")
    assert states(workspace(done))["ingest/votes"] == ("stale", "files votes.txt changed")


def test_a_source_under_another_name_is_the_same(done: Path) -> None:
    (done.parent / "votes.txt").rename(done.parent / "renamed.txt")
    assert set(states(workspace(done, "data.votes=[renamed.txt]")).values()) == {("fresh", "")}


def test_inputs_that_came_and_went_are_named(done: Path) -> None:
    assert states(workspace(done, "teach.folds=[0,1]"))["join/all"] == (
        "stale",
        "parts no longer has train/fold2",
    )


def test_a_new_version_of_a_step_is_named(done: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fake_steps, "JOIN", replace(fake_steps.JOIN, version=2))
    assert states(workspace(done))["join/all"] == ("stale", "version of the step 1 -> 2")


def test_a_damaged_file_is_named(done: Path) -> None:
    work = workspace(done)
    (work.folder(work.find("train/fold0")) / "weights.bin").write_text("short")
    status, reason = states(work)["train/fold0"]
    assert status == "stale"
    assert re.fullmatch(r"weights.bin is damaged: 5 bytes instead of \d+", reason)


def test_other_content_of_the_same_size_is_named(done: Path) -> None:
    work = workspace(done)
    weights = work.folder(work.find("train/fold0")) / "weights.bin"
    weights.write_text("x" * weights.stat().st_size)
    later = (weights.parent / artifacts.MANIFEST).stat().st_mtime_ns + 10**9
    os.utime(weights, ns=(later, later))
    assert states(work)["train/fold0"] == (
        "stale",
        "weights.bin is damaged: its content is not what was written",
    )
    run_task(work, work.find("train/fold0"), lambda line: None, lambda: False)
    assert set(states(work).values()) == {("fresh", "")}, "it came out the same"


def test_an_unfinished_task_says_so(done: Path) -> None:
    work = workspace(done)
    task = work.find("train/fold0")
    folder = work.folder(task)
    (folder / artifacts.MANIFEST).unlink()
    artifacts.open_scratch(folder, work.inputs(task))
    (folder / artifacts.SCRATCH / "state.json").write_text("{}")
    assert states(work)["train/fold0"] == ("missing", "unfinished, goes on from its checkpoint")


def test_a_failed_task_has_its_error_as_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work = workspace(fake_steps.write(tmp_path))
    monkeypatch.setenv("FAKE_FAIL", "train/fold0")
    run_task(work, work.tasks[0], lambda line: None, lambda: False)
    with pytest.raises(TiebreakError):
        run_task(work, work.find("train/fold0"), lambda line: None, lambda: False)
    assert states(work)["train/fold0"] == ("missing", Failed("this fold does not train"))


def test_an_input_made_again_with_another_content_makes_stale(done: Path) -> None:
    work = workspace(done)
    folder = work.folder(work.find("train/fold0"))
    (folder / "weights.bin").write_text("not what it was")
    manifest = artifacts.read_manifest(folder)
    assert manifest is not None
    artifacts.complete(folder, manifest.model_copy(update={"files": artifacts.file_records(folder)}))
    assert states(work)["train/fold0"] == ("fresh", "")
    assert states(work)["join/all"] == ("stale", "train/fold0 was made again and came out different")


def test_chosen_steps_include_the_prerequisites(done: Path) -> None:
    assert [s.task.id for s in plan(workspace(done), ["join"])] == ["ingest/votes", "join/all"]
    with pytest.raises(TiebreakError, match=r"no step 'jion'.*did you mean 'join'"):
        plan(workspace(done), ["jion"])
