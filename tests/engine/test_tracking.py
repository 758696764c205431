"""Tracking: what tasks send to trackers, once, and by what runs; those trackers that are installed, for real."""

import importlib.util
import json
import sqlite3
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import fake_steps
import pytest

from tiebreak.engine import local_runner, tracking
from tiebreak.engine.task_runner import run_task
from tiebreak.engine.trackers import TrackedTask, require_installed
from tiebreak.engine.workspace import Workspace
from tiebreak.errors import Interrupted, TiebreakError

STEPS = fake_steps.STEPS
TRAIN, JOIN = "train/fold0", "join/all"


@dataclass
class Recorded:
    """A tracker that keeps what it is sent, as each session of it does."""

    task: TrackedTask
    points: list[tuple[int, dict[str, float]]] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)
    open: bool = True

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        self.points.append((step, dict(figures)))

    def flush(self) -> None: ...

    def save(self, file: Path) -> None:
        assert file.is_file()
        self.files.append(file)

    def close(self) -> None:
        self.open = False


@pytest.fixture
def sessions(monkeypatch: pytest.MonkeyPatch) -> list[Recorded]:
    """The sessions of a tracker in place of any other, in the order in which they were opened."""
    made: list[Recorded] = []

    def opened(_name: str, task: TrackedTask) -> Recorded:
        made.append(Recorded(task))
        return made[-1]

    monkeypatch.setattr(tracking, "open_tracker", opened)
    monkeypatch.setattr(tracking, "require_installed", lambda names: None)
    return made


def workspace(folder: Path, *names: str) -> Workspace:
    """Fake steps that report to these trackers."""
    path = folder / "recipe.yaml" if (folder / "recipe.yaml").exists() else fake_steps.write(folder)
    for name in ("llama", "gemma"):
        (folder / "models" / name).mkdir(parents=True, exist_ok=True)
    return Workspace(path, (f"compute.report_to=[{', '.join(names)}]",), fake_steps.tasks)


def run(work: Workspace, *ids: str, stop_after: int | None = None) -> None:
    """Run tasks, each of which stops after some calls of its `should_stop`."""
    calls = iter(range(10**6))
    for task_id in ids:
        run_task(
            work,
            work.find(task_id),
            lambda line: None,
            lambda: stop_after is not None and next(calls) >= stop_after,
        )


def losses(sessions: list[Recorded]) -> list[int]:
    return [step for session in sessions for step, figures in session.points if "training/loss" in figures]


def test_a_training_sends_each_step_and_its_results(tmp_path: Path, sessions: list[Recorded]) -> None:
    run(workspace(tmp_path, "wandb"), "ingest/votes", TRAIN)
    (session,) = sessions
    assert losses(sessions) == list(range(1, STEPS + 1))
    assert session.points[0] == (1, {"training/loss": 1.0})
    assert session.points[1][1].keys() == {"training/loss", "training/steps_per_second"}
    assert session.points[-1] == (STEPS + 1, {"result/steps": STEPS})
    assert not session.open
    assert (session.task.name, session.task.project) == ("train-fold0", "fake")


def test_a_resumed_training_goes_on_in_the_same_run_without_repeating_a_step(
    tmp_path: Path, sessions: list[Recorded]
) -> None:
    with pytest.raises(Interrupted):
        run(workspace(tmp_path, "wandb"), "ingest/votes", TRAIN, stop_after=12)
    stopped_after = losses(sessions)[-1]
    assert 0 < stopped_after < STEPS
    assert not sessions[0].open
    run(workspace(tmp_path, "wandb"), TRAIN)
    assert len({session.task.id for session in sessions}) == 1
    assert losses(sessions) == list(range(1, STEPS + 1))


def test_a_step_that_is_computed_again_is_not_sent_again(tmp_path: Path, sessions: list[Recorded]) -> None:
    """As after a kill, which leaves a checkpoint older than what was sent."""
    work = workspace(tmp_path, "wandb")
    task = work.find(TRAIN)
    for first, last in ((1, 8), (5, 12)):
        with tracking.Tracking(work, task) as tracked:
            report = tracked.reporting(lambda *_, **__: None)
            for step in range(first, last + 1):
                report("training", step, STEPS, "steps", loss=1.0)
    assert losses(sessions) == list(range(1, 13))


def test_the_same_task_made_again_adds_nothing(tmp_path: Path, sessions: list[Recorded]) -> None:
    work = workspace(tmp_path, "wandb")
    run(work, "ingest/votes", TRAIN)
    sent = len(sessions[0].points)
    run_task(work, work.find(TRAIN), lambda line: None, lambda: False, redo=True)
    assert [len(session.points) for session in sessions] == [sent]


def test_runs_differ_by_task_and_by_run_folder(tmp_path: Path, sessions: list[Recorded]) -> None:
    for folder in (tmp_path / "one", tmp_path / "two"):
        run(workspace(folder, "wandb"), "ingest/votes", TRAIN, "train/fold1")
    assert len({session.task.id for session in sessions}) == 4


def test_files_that_a_step_shows_are_kept(tmp_path: Path, sessions: list[Recorded]) -> None:
    work = workspace(tmp_path, "mlflow")
    run(work, "ingest/votes", TRAIN, "train/fold1", "train/fold2", JOIN)
    assert sessions[-1].files == [work.folder(work.find(JOIN)) / "all.txt"]
    assert sessions[-1].points == [(1, {"result/length": 3 * 640.0})]


def test_nothing_is_opened_or_written_unless_asked(tmp_path: Path, sessions: list[Recorded]) -> None:
    work = workspace(tmp_path)
    run(work, "ingest/votes", TRAIN)
    assert not sessions
    assert not (work.run_dir / tracking.FOLDER).exists()


def test_a_tracker_that_fails_is_left_out_and_the_training_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(name: str, task: TrackedTask) -> Recorded:
        raise ConnectionError("nobody answers")

    monkeypatch.setattr(tracking, "open_tracker", refuse)
    monkeypatch.setattr(tracking, "require_installed", lambda names: None)
    work = workspace(tmp_path, "mlflow")
    run(work, "ingest/votes", TRAIN)
    assert work.manifest(work.find(TRAIN)) is not None
    assert caplog.messages == ["mlflow: nobody answers; train-fold0 goes on without it"]


def test_a_missing_library_is_told_with_the_command_that_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tiebreak.engine.trackers.find_spec", lambda name: None)
    with pytest.raises(TiebreakError, match=r"pip install wandb mlflow$"):
        require_installed(("wandb", "mlflow"))
    work = workspace(tmp_path, "wandb")
    with pytest.raises(TiebreakError, match="pip install wandb"):
        local_runner.run(work, work.tasks)
    assert not work.run_dir.exists()
    run(workspace(tmp_path), "ingest/votes")
    with pytest.raises(TiebreakError, match="pip install wandb"):
        run(work, TRAIN)
    assert not (work.run_dir / tracking.FOLDER).exists()


# the real libraries


def twice(folder: Path, name: Any) -> Workspace:
    """A training that is stopped and goes on, in a real tracker, and what comes of it."""
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"{name} is not installed: pip install {name}")
    with pytest.raises(Interrupted):
        run(workspace(folder, name), "ingest/votes", TRAIN, stop_after=12)
    work = workspace(folder, name)
    run(work, TRAIN, "train/fold1", "train/fold2", JOIN)
    return work


@pytest.mark.slow
def test_tensorboard(tmp_path: Path) -> None:
    work = twice(tmp_path, "tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folders = sorted((work.run_dir / tracking.FOLDER / "tensorboard").iterdir())
    assert [folder.name.rpartition("-")[0] for folder in folders] == [
        "join-all",
        *(f"train-fold{fold}" for fold in range(3)),
    ]
    events = EventAccumulator(str(folders[1])).Reload()
    assert [event.step for event in events.Scalars("training/loss")] == list(range(1, STEPS + 1))
    assert [event.value for event in events.Scalars("result/steps")] == [STEPS]
    shown = EventAccumulator(str(folders[0])).Reload()
    assert shown.Tags()["tensors"] == ["all.txt/text_summary"]


@pytest.mark.slow
def test_mlflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = f"sqlite:///{tmp_path / 'elsewhere.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.chdir(tmp_path)  # where artifacts go for such a server
    work = twice(tmp_path / "run", "mlflow")
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    (experiment,) = [found for found in client.search_experiments() if found.name == "fake"]
    runs = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
    assert runs.keys() == {"join-all", "train-fold0", "train-fold1", "train-fold2"}
    history = client.get_metric_history(runs["train-fold0"].info.run_id, "training/loss")
    assert sorted(point.step for point in history) == list(range(1, STEPS + 1))
    assert runs["train-fold0"].info.status == "FINISHED"
    assert [file.path for file in client.list_artifacts(runs["join-all"].info.run_id)] == [
        "all.txt",
        "settings.json",
    ]
    assert not (work.run_dir / tracking.FOLDER / "mlflow.db").exists()


@pytest.mark.slow
def test_wandb_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    work = twice(tmp_path, "wandb")
    sessions = sorted((work.run_dir / tracking.FOLDER / "wandb").glob("offline-run-*"))
    ids = [session.name.rpartition("-")[2] for session in sessions]
    assert len(ids) == 5
    assert len(set(ids)) == 4, "the training that was stopped goes on in its run"
    points = [step for session in sessions for step in wandb_steps(session)]
    assert sorted(points) == sorted([*range(1, STEPS + 1)] * 3)


def wandb_steps(session: Path) -> Iterator[int]:
    """The steps of the losses in the file of an offline session."""
    from wandb.proto import wandb_internal_pb2

    (path,) = session.glob("*.wandb")
    for data in leveldb_records(path.read_bytes()):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(data)
        items = {item.key or "/".join(item.nested_key): item.value_json for item in record.history.item}
        if "training/loss" in items:
            yield int(items["_step"])


def leveldb_records(log: bytes) -> Iterator[bytes]:
    """The records of a log in LevelDB's format: blocks of 32 KiB with chunks of checksum, length, type and data."""
    place, record = 7, b""  # behind the file's own header
    while place + 7 <= len(log):
        if 2**15 - place % 2**15 < 7:
            place += 2**15 - place % 2**15
            continue
        _, length, kind = struct.unpack_from("<IHB", log, place)
        record += log[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, last
            yield record
            record = b""


@pytest.mark.slow
def test_trackio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))  # read once, as trackio is imported
    monkeypatch.setenv("TRACKIO_SPACE_ID", "nobody/nowhere")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    twice(tmp_path / "run", "trackio")
    import trackio

    runs = {run.name.rpartition("-")[0]: run for run in trackio.Api().runs("fake")}
    assert runs.keys() == {"join-all", "train-fold0", "train-fold1", "train-fold2"}
    with sqlite3.connect(tmp_path / "trackio" / "fake.db") as database:
        rows = database.execute("SELECT run_name, step, metrics FROM metrics").fetchall()
    steps = [
        step for name, step, metrics in rows if "fold0" in name and "training/loss" in json.loads(metrics)
    ]
    assert sorted(steps) == list(range(1, STEPS + 1))
