"""Live view of a run: its curves, and when it ends."""

from collections.abc import Sequence
from pathlib import Path

import fake_steps
import pytest

from tiebreak.commands import watch
from tiebreak.commands.status import Status
from tiebreak.engine.artifacts import PROGRESS
from tiebreak.engine.progress import Reading
from tiebreak.engine.workspace import Workspace


@pytest.mark.parametrize(
    ("values", "bars"), [([1.0], "▁"), ([2.0, 1.5, 1.0], "█▅▁"), ([1.0, 1.0], "▁▁"), ([0.0] * 90, "▁" * 40)]
)
def test_sparklines(values: list[float], bars: str) -> None:
    assert watch.sparkline(values) == bars


def test_losses_are_collected_until_nothing_runs_or_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = Workspace(fake_steps.write(tmp_path), (), fake_steps.tasks)
    folder = work.folder(work.find("train/fold0"))
    folder.mkdir(parents=True)
    states = iter([("running", 2.0), ("running", 1.5), ("done", 0.0)])

    def statuses(_: Workspace) -> list[Status]:
        state, loss = next(states)
        reading = Reading(
            phase="train", done=1, total=2, unit="steps", rate=1, seconds_left=None, figures={"loss": loss}, updated=0,
            process=1, host="x",
        )  # fmt: skip
        (folder / PROGRESS).write_text(reading.model_dump_json())
        return [Status("train/fold0", state, "")]

    monkeypatch.setattr(watch, "task_statuses", statuses)
    monkeypatch.setattr(watch, "_SECONDS", 0)
    shown: list[tuple[str, list[float]]] = []

    def show(statuses: Sequence[Status], losses: watch.Curves) -> None:
        shown.append((watch.summary(statuses), list(losses.get("train/fold0", ()))))

    watch.watch(work, show)
    assert shown == [("1 running", [2.0]), ("1 running", [2.0, 1.5]), ("1 done", [2.0, 1.5])]
