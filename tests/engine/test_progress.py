"""Progress: frequency of files and lines, and their content."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tiebreak.engine import progress
from tiebreak.engine.progress import Reporter, duration, read

Clock = Callable[[float], None]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """A clock that stands still; call it to move it on."""
    now = [1000.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])

    def move(seconds: float) -> None:
        now[0] += seconds

    return move


def test_the_file_is_written_once_a_second_at_most(tmp_path: Path, clock: Clock) -> None:
    report = Reporter(tmp_path, lambda line: None, log_every=1000)
    report("train", 1, 100, "steps", loss=1.5)
    clock(0.5)
    report("train", 2, 100, "steps")
    first = read(tmp_path)
    assert first is not None
    assert (first.done, first.figures) == (1, {"loss": 1.5})
    clock(0.5)
    report("train", 11, 100, "steps")
    second = read(tmp_path)
    assert second is not None
    assert (second.done, second.rate, second.seconds_left) == (11, 10.0, 8.9)


def test_the_rate_counts_from_where_a_phase_began(tmp_path: Path, clock: Clock) -> None:
    report = Reporter(tmp_path, lambda line: None, log_every=1000)
    report("train", 50, 100, "steps")
    clock(2)
    report("score", 400, 1000, "rows")
    clock(2)
    report("score", 500, 1000, "rows")
    reading = read(tmp_path)
    assert reading is not None
    assert (reading.rate, reading.seconds_left) == (50.0, 10.0)


def test_a_line_every_so_many_calls_or_after_some_time(tmp_path: Path, clock: Clock) -> None:
    lines: list[str] = []
    report = Reporter(tmp_path, lines.append, log_every=5)
    for step in range(1, 11):
        clock(0.5)
        report("train", step, 100, "steps", loss=1.25)
    assert lines == [
        "train 5/100 steps, 2 steps/s, 48 s left, loss 1.25",
        "train 10/100 steps, 2 steps/s, 45 s left, loss 1.25",
    ]
    clock(progress.LINE_EVERY)
    report("train", 11, 100, "steps")
    assert len(lines) == 3


def test_calls_in_quick_succession_are_no_flood_of_lines(tmp_path: Path, clock: Clock) -> None:
    lines: list[str] = []
    report = Reporter(tmp_path, lines.append, log_every=1)
    for step in range(1000):
        clock(0.001)
        report("train", step, 1000, "steps")
    assert len(lines) <= 1


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (59.4, "59 s"), (200, "3 min 20 s"), (18_720, "5 h 12 min")]
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_no_progress_is_none(tmp_path: Path) -> None:
    assert read(tmp_path) is None
    (tmp_path / "progress.json").write_text('{"phase": "tr')
    assert read(tmp_path) is None
