"""`tiebreak.train`: the run of the command line in one call, and errors that name the argument."""

import json
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import yaml
from forked import Forked, quick_runs
from short_run import SETTINGS
from tiny_models import votes

import tiebreak
from tiebreak.commands.finished_run import Run
from tiebreak.commands.train import HEADING
from tiebreak.engine import local_runner, planner
from tiebreak.engine.signals import Stop
from tiebreak.engine.workspace import Workspace
from tiebreak.errors import Interrupted, TiebreakError

SHORT = {
    name.replace(".", "__"): yaml.safe_load(value)
    for name, value in (setting.split("=") for setting in SETTINGS)
}
ROWS = [
    {"prompt": f"question {n}", "response_a": "yes " * (n % 7 + 1), "response_b": "no", "winner": "ab"[n % 2]}
    for n in range(160)
]


def _train(folder: Path, events: Path) -> None:
    """Train on dicts in `folder`, and write down what was said."""
    with quick_runs(), events.open("w") as file:

        def note(event: Any) -> None:
            file.write(json.dumps([event.task, event.text, event.ended, event.tasks]) + "\n")

        tiebreak.train(ROWS, preset="tiny", folder=folder, progress=note, **SHORT)


@pytest.fixture(scope="module")
def trained(once: Callable[..., Path]) -> Path:
    """The folder of a judge of dicts; to be read, not changed."""
    return once("trained", lambda folder: Forked(_train, folder / "judge", folder / "events.jsonl").finish())


@pytest.mark.slow
def test_a_run_has_its_judge_its_report_and_its_verdict(trained: Path) -> None:
    run = Run(trained / "judge" / "recipe.yaml")
    assert run.folder == trained / "judge"
    assert {status.state for status in run.status()} == {"done"}
    p_NC = run.judge().predict(ROWS[:3])
    assert np.array_equal(p_NC, tiebreak.load(run.model).predict(ROWS[:3]))
    verdict = run.verdict
    assert verdict is not None
    assert str(run) == f"Run({str(run.folder)!r}): {verdict['headline']}"
    report = run.report()
    assert report.metrics["verdict"] == verdict
    assert verdict["headline"] in Path(report).read_text()
    assert "srcdoc=" in report._repr_html_()
    assert '"' not in report._repr_html_().split('srcdoc="')[1].split('" style')[0]


@pytest.mark.slow
def test_progress_is_told_line_by_line_and_counts_the_tasks(trained: Path, capfd: Any) -> None:
    events = [json.loads(line) for line in (trained / "events.jsonl").read_text().splitlines()]
    tasks = {task.id for task in Workspace(trained / "judge" / "recipe.yaml").tasks}
    ends = [event for event in events if event[1].startswith("done in")]
    assert {event[0] for event in ends} == tasks
    assert [event[2] for event in ends] == list(range(1, len(tasks) + 1))
    assert {event[3] for event in events} == {len(tasks)}
    assert any("weights in" in text for _, text, *_ in events), "what tasks log is told too"


@pytest.mark.slow
def test_the_same_call_goes_on_and_the_command_line_knows_the_run(trained: Path, tiebreak: Any) -> None:
    before = (trained / "judge" / "recipe.yaml").read_text()
    lines: list[str] = []
    run = __import__("tiebreak").train(
        ROWS,
        preset="tiny",
        folder=trained / "judge",
        progress=lambda event: lines.append(str(event)),
        **SHORT,
    )
    assert (run.folder / "recipe.yaml").read_text() == before
    assert all(line.endswith(": fresh") for line in lines)
    code, out, _ = tiebreak("report", trained / "judge")
    assert (code, Path(out.strip())) == (0, Path(run.report()))


@pytest.mark.slow
def test_other_arguments_make_only_what_depends_on_them_stale(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Workspace] = []

    def look(work: Workspace, *_: Any) -> local_runner.Outcome:
        asked.append(work)
        return local_runner.Outcome()

    monkeypatch.setattr(local_runner, "run", look)
    folder = tmp_path / "judge"
    os.symlink(trained / "judge" / "run", tmp_path / "elsewhere")  # the artifacts are left as they are
    settings = SHORT | {"distill__temperature": np.float64(2.5), "run_dir": str(tmp_path / "elsewhere")}
    tiebreak.train(ROWS, preset="tiny", folder=folder, **settings)
    for name in ("gemma", "llama"):  # the same tiny models, but for their tokenizers' files
        assert (folder / "models" / name).is_dir()
    assert asked[0].recipe.distill.temperature == 2.5
    states = {state.task.id: state for state in planner.plan(asked[0])}
    assert "distill.temperature" not in str(states["split/votes"].reason)
    assert states["split/votes"].status == "fresh"
    assert "temperature" in str(states["distill/fold0"].reason)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"votes": None}, "votes takes files, a table or a list of dicts, not None"),
        ({"votes": []}, "votes takes files, .* none in it"),
        ({"votes": 3}, "votes takes .* not 3"),
        ({"votes": [{"prompt": "?"}, 7]}, "votes takes .* number 2 is 7"),
        ({"votes": [{"prompt": {1, 2}}]}, "votes: number 1 cannot be written as JSON"),
        ({"votes": "nowhere.csv"}, "no file of votes at nowhere.csv"),
        ({"votes": pa.table({"colour": ["red"]})}, "given_votes.parquet"),
        ({"test": {"a": 1}}, "test takes files"),
        ({"preset": "smal"}, "no preset 'smal'; did you mean 'small'"),
        ({"preset": 3}, "preset takes str"),
        ({"folder": 3}, "folder takes str | Path"),
        ({"progress": 3}, "progress takes"),
        ({"columns": ["a"]}, "columns takes"),
        ({"teach__training__epoch": 2}, "teach.training.epoch: .*did you mean 'epochs'"),
        ({"nothing": 2}, "nothing"),
        ({"teach__training__epochs": slice(3)}, "teach__training__epochs takes a plain value"),
        ({"split__count": 1}, "split.count"),
    ],
    ids=str,
)
def test_errors_name_the_argument_and_leave_nothing(
    arguments: dict[str, Any], message: str, tmp_path: Path
) -> None:
    given = {"votes": ROWS, "preset": "tiny", "folder": tmp_path / "judge"} | arguments
    with pytest.raises(TiebreakError, match=f"(?s){message}"):
        tiebreak.train(**given)
    assert not list(tmp_path.iterdir())


def test_a_recipe_of_another_origin_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("name: mine\n")
    with pytest.raises(TiebreakError, match=r"recipe\.yaml exists; use it with: tiebreak run"):
        tiebreak.train(ROWS, preset="tiny", folder=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["recipe.yaml"]
    assert (tmp_path / "recipe.yaml").read_text() == "name: mine\n"


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[Workspace]:
    """The workspaces that would have been run."""
    found: list[Workspace] = []
    monkeypatch.setattr(
        local_runner, "run", lambda work, *_: found.append(work) or local_runner.Outcome(failed={"a": "why"})
    )
    return found


@pytest.mark.parametrize("kind", ["table", "file", "files", "frame"])
def test_votes_are_a_table_a_file_or_several(kind: str, tmp_path: Path, said: list[Workspace]) -> None:
    table = pa.Table.from_pylist(ROWS)
    path = tmp_path / "votes.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    given = {"table": table, "file": path, "files": [str(path)], "frame": None}[kind]
    if kind == "frame":
        given = pytest.importorskip("pandas").DataFrame(ROWS)
    with pytest.raises(TiebreakError, match=r"1 tasks failed.*\n.*a: why"):
        tiebreak.train(given, preset="tiny", folder=tmp_path / "judge")
    (work,) = said
    card = tiebreak.check(work.recipe.data.votes)
    assert sum(card.labels[label].value * 160 for label in ("a", "b")) == pytest.approx(160)
    assert work.path.read_text().startswith(HEADING)


def test_a_table_in_the_schema_of_votes_is_read_whole(tmp_path: Path, said: list[Workspace]) -> None:
    with pytest.raises(TiebreakError):
        tiebreak.train(votes(120), preset="tiny", folder=tmp_path / "judge", split__count=4)
    assert said[0].recipe.split.count == 4
    assert said[0].recipe.name == "judge"


def test_an_interrupt_stops_with_checkpoints_and_the_handler_comes_back() -> None:
    stop, before = Stop(), signal.getsignal(signal.SIGINT)
    with stop.on_interrupt():
        os.kill(os.getpid(), signal.SIGINT)
        assert stop()
    assert signal.getsignal(signal.SIGINT) == before


def test_in_another_thread_the_handlers_are_left_alone() -> None:
    before, seen = signal.getsignal(signal.SIGINT), []

    def look() -> None:
        with Stop().on_interrupt():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert seen == [before]


def test_a_stopped_run_is_a_keyboard_interrupt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(*_: Any) -> None:
        raise Interrupted

    monkeypatch.setattr(local_runner, "run", stopped)
    with pytest.raises(KeyboardInterrupt, match="the same call goes on"):
        tiebreak.train(ROWS, preset="tiny", folder=tmp_path / "judge")
