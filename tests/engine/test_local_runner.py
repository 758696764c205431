"""Local runner on worker processes: order, failures, a full disk, a killed worker, stop signals."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import fake_steps
import pytest

from tiebreak.engine import artifacts, local_runner
from tiebreak.engine.planner import select, state
from tiebreak.engine.progress import Reading
from tiebreak.engine.signals import Stop
from tiebreak.engine.task_runner import run_task
from tiebreak.engine.worker import Message
from tiebreak.engine.workspace import Workspace
from tiebreak.errors import DamagedInput, Interrupted, TiebreakError

pytestmark = pytest.mark.slow

FOLDS = [f"train/fold{fold}" for fold in range(3)]


def workspace(path: Path, *overrides: str) -> Workspace:
    return Workspace(path, overrides, fake_steps.tasks)


def run(work: Workspace, *steps: str, stop: Stop | None = None) -> local_runner.Outcome:
    return local_runner.run(work, select(work, steps), stop)


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    return fake_steps.write(tmp_path)


@pytest.mark.parametrize("workers", [1, 3])
def test_everything_is_made_once_and_fresh_afterwards(
    recipe: Path, workers: int, capfd: pytest.CaptureFixture[str]
) -> None:
    work = workspace(recipe, f"compute.workers={workers}")
    outcome = run(work)
    assert outcome.done[0] == "ingest/votes"
    assert outcome.done[-1] == "join/all"
    assert sorted(outcome.done[1:-1]) == FOLDS
    again = run(workspace(recipe))
    assert again.done == []
    assert sorted(again.fresh) == sorted(outcome.done)
    seen = capfd.readouterr()
    assert seen.out == ""
    assert "a library talks" not in seen.err
    assert "a library talks" in (work.run_dir / "logs" / "train-fold0.log").read_text()


def test_a_manifest_accounts_for_everything(recipe: Path) -> None:
    work = workspace(recipe)
    run(work)
    task = work.find("train/fold1")
    manifest = json.loads((work.folder(task) / "manifest.json").read_text())
    upstream = work.manifest(work.find("ingest/votes"))
    assert upstream is not None
    assert manifest["settings"] == {"seed": 0, "fold": 1}
    assert manifest["inputs"] == {
        "text": [{"origin": "ingest/votes", "key": upstream.key, "content": upstream.content}]
    }
    assert manifest["files"].keys() == {"weights.bin"}
    assert manifest["metrics"] == {"steps": fake_steps.STEPS}
    assert manifest["versions"].keys() == {"python", "tiebreak", "torch", "transformers"}
    assert manifest["hardware"]["cores"] >= 1
    assert os.listdir(work.folder(task) / "..") != []


def test_a_failure_skips_what_needs_it_and_nothing_else(
    recipe: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FAKE_FAIL", "train/fold1")
    outcome = run(workspace(recipe))
    assert outcome.failed == {"train/fold1": "this fold does not train"}
    assert outcome.skipped == ["join/all"]
    assert sorted(outcome.done) == ["ingest/votes", "train/fold0", "train/fold2"]
    assert capfd.readouterr().err.count("this fold does not train") == 1
    monkeypatch.delenv("FAKE_FAIL")
    assert run(workspace(recipe)).done == ["train/fold1", "join/all"]


def test_a_failed_task_leaves_only_its_error(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_FAIL", "train/fold1")
    work = workspace(recipe)
    run(work)
    left = set(os.listdir(work.folder(work.find("train/fold1"))))
    assert left == {artifacts.LOCK, artifacts.SCRATCH, artifacts.FAILURE}


def test_internal_errors_differ_from_user_errors(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_BUG", "train/fold0")
    work = workspace(recipe)
    failed = run(work).failed["train/fold0"]
    log = work.run_dir / "logs" / "train-fold0.log"
    assert failed == f"ValueError: a mistake of ours (more in {log})"
    assert "Traceback" in log.read_text()


def test_a_full_disk_is_one_clear_error(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_FULL_DISK", "train/fold2")
    failed = run(workspace(recipe)).failed["train/fold2"]
    assert failed.startswith("the disk is full, that of ")
    assert "nothing finished is lost" in failed


def test_a_worker_that_is_killed_fails_its_task_alone(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_DIE", "train/fold0")
    outcome = run(workspace(recipe, "compute.workers=1"))
    assert outcome.failed.keys() == {"train/fold0"}
    assert "killed by SIGKILL (often: out of memory)" in outcome.failed["train/fold0"]
    assert sorted(outcome.done) == ["ingest/votes", "train/fold1", "train/fold2"]


@pytest.mark.parametrize(
    ("death", "told"), [("FAKE_DIE", "killed by SIGKILL"), ("FAKE_LOSE", "process 1 of 2")]
)
def test_a_task_whose_process_is_killed_starts_again_with_half_the_tokens(
    recipe: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], death: str, told: str
) -> None:
    """The process of the task, or one of several that share it."""
    undisturbed = fake_steps.write(recipe.parent / "undisturbed")
    run(workspace(undisturbed))
    monkeypatch.setenv(death, "train/fold0")
    monkeypatch.setenv("FAKE_DIE_ABOVE", "4096")
    work = workspace(recipe)
    outcome = local_runner.run(work, work.tasks, retries=2)
    assert not outcome.failed
    assert len(outcome.done) == 5
    assert "again, with half the tokens in a forward (1 of 2)" in capfd.readouterr().err
    assert fake_steps.payload(work.run_dir) == fake_steps.payload(undisturbed.parent / "run")
    monkeypatch.setenv("FAKE_DIE_ABOVE", "1")
    other = workspace(recipe, "seed=1")
    outcome = local_runner.run(other, other.tasks, retries=2)
    assert told in outcome.failed["train/fold0"]


def test_a_new_worker_takes_the_card_of_a_dead_one(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        local_runner, "Worker", lambda work, index: SimpleNamespace(index=index, task="at work")
    )
    run_state = local_runner._Run(workspace(recipe, "compute.workers=2"), [], Stop())
    first, second = run_state._idle_worker(), run_state._idle_worker()
    assert (first.index, second.index, run_state._idle_worker()) == (0, 1, None)
    run_state.workers.remove(first)
    assert run_state._idle_worker().index == 0


def test_a_signal_to_one_worker_fails_its_task_alone(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_TERM", "train/fold0")
    outcome = run(workspace(recipe))
    assert "a signal told its process alone to stop" in outcome.failed["train/fold0"]
    assert outcome.skipped == ["join/all"]


def test_a_stopped_task_keeps_its_checkpoint(recipe: Path) -> None:
    work = workspace(recipe)
    run_task(work, work.tasks[0], lambda line: None, lambda: False)
    task = work.find("train/fold0")
    with pytest.raises(Interrupted):
        run_task(work, task, lambda line: None, lambda: True)
    assert json.loads((work.folder(task) / artifacts.SCRATCH / "state.json").read_text())["step"] == 1
    assert state(work, task).reason == "unfinished, goes on from its checkpoint"


def test_seconds_add_up_over_turns(recipe: Path) -> None:
    """Stopped, killed with a progress file left, failed: the manifest has them all; those of other inputs are dropped."""
    work = workspace(recipe)
    run_task(work, work.tasks[0], lambda line: None, lambda: False)
    task, folder = work.find("train/fold0"), work.folder(work.find("train/fold0"))
    with pytest.raises(Interrupted):
        run_task(work, task, lambda line: None, lambda: True)
    first = artifacts.seconds_spent(folder)
    assert first > 0
    artifacts.store_seconds(folder, 1000 + first)
    with pytest.raises(Interrupted):
        run_task(work, task, lambda line: None, lambda: True)
    assert artifacts.seconds_spent(folder) > 1000 + first
    killed = Reading(
        phase="train", done=2, total=20, unit="steps", rate=1, seconds_left=None, figures={}, updated=0, seconds=5000,
        process=1, host="gone",
    )  # fmt: skip
    (folder / artifacts.PROGRESS).write_text(killed.model_dump_json())
    assert run_task(work, task, lambda line: None, lambda: False).seconds > 5000
    assert run_task(work, task, lambda line: None, lambda: False, redo=True).seconds < 1000


def test_a_signal_after_the_last_task_stops_nothing(recipe: Path) -> None:
    work, stop = workspace(recipe), Stop()
    assert len(run(work, stop=stop).done) == 5
    stop.received = 15
    with pytest.raises(Interrupted):
        run(work, stop=stop)
    runner = local_runner._Run(work, [], stop)
    assert runner.run() == local_runner.Outcome()


def redo_votes(work: Workspace) -> None:
    """Make the votes again, with other content under the same key: as on a GPU, only more so."""
    (work.root / "votes.txt").write_text("other votes")
    run_task(work, work.tasks[0], lambda line: None, lambda: False, redo=True)


def test_a_checkpoint_of_other_inputs_is_dropped(recipe: Path) -> None:
    work = workspace(recipe)
    run_task(work, work.tasks[0], lambda line: None, lambda: False)
    task = work.find("train/fold0")
    with pytest.raises(Interrupted):
        run_task(work, task, lambda line: None, lambda: True)
    redo_votes(work)
    assert state(work, task).reason == "never made"
    went_on = run_task(work, task, lambda line: None, lambda: False)
    undisturbed = run_task(work, task, lambda line: None, lambda: False, redo=True)
    assert went_on.files == undisturbed.files


def test_an_input_made_again_while_a_task_reads_it_makes_the_task_stale(recipe: Path) -> None:
    work = workspace(recipe)
    run_task(work, work.tasks[0], lambda line: None, lambda: False)
    task = work.find("train/fold0")

    def should_stop() -> bool:
        redo_votes(work)
        return False

    run_task(work, task, lambda line: None, should_stop)
    assert state(work, task).reason == "ingest/votes was made again and came out different"


def test_a_stopped_run_starts_nothing(recipe: Path) -> None:
    stop = Stop()
    stop.received = 15
    with pytest.raises(Interrupted):
        run(workspace(recipe), stop=stop)
    assert not list((recipe.parent / "run").glob("artifacts/*/*/manifest.json"))


def damage(folder: Path, name: str = "weights.bin") -> None:
    """Change a byte so that only reading it all tells."""
    file = folder / name
    content = file.read_text()
    file.write_text("~" + content[1:])
    os.utime(file, (0, 0))


def test_a_damaged_input_is_made_again_and_nothing_else(
    recipe: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    work = workspace(recipe)
    run(work)
    before = fake_steps.payload(work.run_dir)
    for fold in (0, 2):
        damage(work.folder(work.find(f"train/fold{fold}")))
    (work.folder(work.find("join/all")) / "manifest.json").unlink()
    outcome = run(workspace(recipe))
    assert not outcome.failed
    assert sorted(outcome.done[:2]) == ["train/fold0", "train/fold2"]
    assert outcome.done[2:] == ["join/all"]
    assert outcome.fresh == ["ingest/votes", "train/fold1"]
    assert fake_steps.payload(work.run_dir) == before
    said = capfd.readouterr().err.splitlines()
    problem = "weights.bin is damaged: its content is not what was written; making it again"
    assert said.count(f"train/fold0: {problem}") == 1
    assert said[-1].startswith("[7/7] join/all: done")
    assert run(workspace(recipe)).done == []


def test_what_a_damaged_input_needs_is_made_too_chosen_or_not(recipe: Path) -> None:
    work = workspace(recipe)
    run(work)
    damage(work.folder(work.find("train/fold1")))
    artifacts.clear(work.folder(work.find("ingest/votes")))
    (work.folder(work.find("join/all")) / "manifest.json").unlink()
    outcome = local_runner.run(workspace(recipe), [work.find("join/all")])
    assert outcome.done == ["ingest/votes", "train/fold1", "join/all"]
    assert not outcome.fresh


def test_damage_all_the_way_up_is_healed(recipe: Path) -> None:
    work = workspace(recipe)
    run(work)
    before = fake_steps.payload(work.run_dir)
    damage(work.folder(work.find("ingest/votes")), "deep/text.txt")
    damage(work.folder(work.find("train/fold1")))
    (work.folder(work.find("join/all")) / "manifest.json").unlink()
    assert run(workspace(recipe)).done == ["ingest/votes", "train/fold1", "join/all"]
    assert fake_steps.payload(work.run_dir) == before


def test_a_disk_that_damages_everything_ends_the_run(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work = workspace(recipe)
    run(work)
    run_state = local_runner._Run(work, [work.find("join/all")], Stop())
    monkeypatch.setattr(local_runner, "Worker", lambda *_: pytest.fail("started"))
    for _ in range(local_runner.MOST_ATTEMPTS):
        run_state.waiting.clear()
        run_state._record_end(work.find("join/all"), Message("damaged", "damaged once more"))
        assert not run_state.outcome.failed
    run_state._record_end(work.find("join/all"), Message("damaged", "damaged once more"))
    assert run_state.outcome.failed == {"join/all": "damaged once more"}


def test_one_task_names_its_damaged_inputs_and_the_command_that_mends_them(recipe: Path) -> None:
    work = workspace(recipe, "seed=3")
    run(work)
    damage(work.folder(work.find("train/fold1")))
    again = f"make it again with: tiebreak run {recipe} --set seed=3"
    with pytest.raises(DamagedInput, match=rf"^train/fold1: weights\.bin is damaged: .*; {again}$"):
        run_task(work, work.find("join/all"), lambda line: None, lambda: False, redo=True)
    assert str(state(work, work.find("train/fold1")).reason).startswith("weights.bin is damaged")
    assert run(workspace(recipe, "seed=3")).done == ["train/fold1", "join/all"]


def test_steps_alone_need_the_others_artifacts(recipe: Path) -> None:
    needs = rf"join/all needs train/fold0, which is missing .never made.*run {recipe} --steps train"
    with pytest.raises(TiebreakError, match=needs):
        run(workspace(recipe), "join")
    assert sorted(run(workspace(recipe), "train").done) == ["ingest/votes", *FOLDS]
    assert run(workspace(recipe), "join").done == ["join/all"]


def test_a_source_that_changes_during_the_run_is_an_error(recipe: Path) -> None:
    work = workspace(recipe)
    assert [work.key(task) for task in work.tasks]
    (recipe.parent / "votes.txt").write_text("changed in the meantime")
    assert "has changed while the run went on" in run(work).failed["ingest/votes"]


def test_a_task_removed_from_the_recipe_during_the_run_is_an_error(recipe: Path) -> None:
    work = workspace(recipe)
    chosen = select(work)
    recipe.write_text(recipe.read_text().replace("count: 3", "count: 2"))
    outcome = local_runner.run(work, chosen)
    assert "no task 'train/fold2'" in outcome.failed["train/fold2"]
    assert sorted(outcome.done) == ["ingest/votes", *FOLDS[:2]]


@pytest.mark.parametrize("run_dir", ["/proc/x", "votes.csv"])
def test_a_run_folder_that_cannot_be_made_is_named(recipe: Path, run_dir: str) -> None:
    (recipe.parent / "votes.csv").touch()
    work = workspace(recipe, f"run_dir={run_dir}")
    with pytest.raises(TiebreakError, match=f"cannot write to the folder .*{run_dir}/logs: "):
        run(work)
    with pytest.raises(TiebreakError, match=f"cannot write to the folder .*{run_dir}/artifacts/"):
        run_task(work, work.find("ingest/votes"), print, Stop())


def test_a_script_without_a_guard_may_run_tasks(recipe: Path, tmp_path: Path) -> None:
    """Workers are spawned, which would run the script again."""
    script = tmp_path / "script.py"
    script.write_text(f"""
from pathlib import Path
import fake_steps
from tiebreak.engine import local_runner
from tiebreak.engine.workspace import Workspace
print("once")
work = Workspace(Path({str(recipe)!r}), ("compute.workers=1",), fake_steps.tasks)
print(*local_runner.run(work, work.tasks[:1], None, lambda event: print(event)).done)
""")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    found = subprocess.run(
        [sys.executable, script], env=environment, capture_output=True, text=True, check=True
    )
    first, line, last = found.stdout.splitlines()
    assert (first, last) == ("once", "ingest/votes"), found.stdout
    assert line.startswith("[1/1] ingest/votes: done in ")
    assert found.stderr == "", "what is told is not shown too"
