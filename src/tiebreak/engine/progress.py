"""Progress of running tasks: a small file in the task's folder, log lines, bars on a terminal."""

import json
import os
import socket
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from pydantic import BaseModel, ValidationError
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from tiebreak import plain
from tiebreak.engine.artifacts import PROGRESS, seconds_spent
from tiebreak.output import replacing
from tiebreak.runtime import Event

WRITE_EVERY = 1.0
LINE_EVERY = 10.0


class Reading(BaseModel):
    """One reading of a task's progress. `rate` is in units a second, since the phase began.

    seconds: what this turn of the task and those before it took.
    """

    phase: str
    done: float
    total: float
    unit: str
    rate: float
    seconds_left: float | None
    figures: dict[str, float]
    updated: float
    seconds: float = 0.0
    process: int
    host: str

    def line(self) -> str:
        """`train 120/300 steps, 4.1 steps/s, 44 s left, loss 1.02`"""
        parts = [f"{self.phase} {self.done:.10g}/{self.total:.10g} {self.unit}"]
        if self.rate:
            parts.append(f"{self.rate:.3g} {self.unit}/s")
        if self.seconds_left:
            parts.append(f"{duration(self.seconds_left)} left")
        parts += [f"{name} {value:.4g}" for name, value in self.figures.items()]
        return ", ".join(parts)


def duration(seconds: float) -> str:
    """Format seconds: `44 s`, `3 min 20 s`, `5 h 12 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


class Reporter:
    """Progress callback of a step: writes progress.json at most once a second, and logs a line every `log_every`
    calls (at most one a second) or after `LINE_EVERY` seconds without one.
    """

    def __init__(self, folder: Path, log: Callable[[str], None], log_every: int) -> None:
        self._path = folder / PROGRESS
        self._log = log
        self._log_every = log_every
        self._phase: str | None = None
        self._phase_began = 0.0
        self._phase_start = 0.0
        self._calls = 0
        self._written = float("-inf")
        self._logged = self._began = time.monotonic()
        self._spent = seconds_spent(folder)

    def __call__(self, phase: str, done: float, total: float, unit: str, **figures: float) -> None:
        now = time.monotonic()
        if phase != self._phase:
            self._phase, self._phase_began, self._phase_start = phase, now, done
        self._calls += 1
        due = self._line_due(now)
        if not due and now - self._written < WRITE_EVERY:
            return
        reading = self._reading(now, done, total, unit, figures)
        if now - self._written >= WRITE_EVERY:
            self._written = now
            with replacing(self._path) as file:
                file.write(reading.model_dump_json().encode())
        if due:
            self._logged, self._calls = now, 0
            self._log(reading.line())

    def _line_due(self, now: float) -> bool:
        silent = now - self._logged
        return silent >= LINE_EVERY or (self._calls >= self._log_every and silent >= WRITE_EVERY)

    def _reading(
        self, now: float, done: float, total: float, unit: str, figures: Mapping[str, float]
    ) -> Reading:
        elapsed = now - self._phase_began
        rate = (done - self._phase_start) / elapsed if elapsed > 0 else 0.0
        return Reading(
            phase=self._phase or "",
            done=done,
            total=total,
            unit=unit,
            rate=rate,
            seconds_left=(total - done) / rate if rate > 0 else None,
            figures=dict(figures),
            updated=time.time(),
            seconds=self._spent + now - self._began,
            process=os.getpid(),
            host=socket.gethostname(),
        )


def read(folder: Path) -> Reading | None:
    """Read the latest progress of the task in `folder`; None if there is none."""
    if not (folder / PROGRESS).is_file():  # a pipe would be waited for
        return None
    try:
        return Reading.model_validate_json((folder / PROGRESS).read_bytes())
    except (OSError, ValidationError, json.JSONDecodeError):
        return None


class Display:
    """Display of a run on stderr: bars of the running tasks on a terminal, else lines; or in calls of `tell`, one a line."""

    def __init__(self, console: Console, total: int, tell: Callable[[Event], None] | None = None) -> None:
        self._console = console
        self._tell = tell
        # a notebook sets FORCE_COLOR, and cannot move a cursor
        self._has_bars = console.is_terminal and console.file.isatty() and tell is None
        self._rows: dict[str, TaskID] = {}
        self._done, self._total = 0, total
        self._bars = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[line]}", markup=False),
            console=console,
            transient=True,
            disable=not self._has_bars,
        )

    def __enter__(self) -> "Display":
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def log(self, task_id: str, text: str) -> None:
        """Print a permanent line."""
        self._say(task_id, text, f"{task_id}: {text}")

    def progress(self, task_id: str, line: str) -> None:
        """Print a line of progress; on a terminal the bars show it instead."""
        if not self._has_bars:
            self.log(task_id, line)

    def start(self, task_id: str) -> None:
        if self._has_bars:
            self._rows[task_id] = self._bars.add_task(plain.line(task_id), total=None, line="")

    def pause(self, task_id: str) -> None:
        """Remove the bar of a task that waits again."""
        if task_id in self._rows:
            self._bars.remove_task(self._rows.pop(task_id))

    def expect(self, more: int) -> None:
        """Count more tasks."""
        self._total += more

    def end(self, task_id: str, text: str) -> None:
        self._done += 1
        self.pause(task_id)
        self._say(task_id, text, f"[{self._done}/{self._total}] {task_id}: {text}")

    def _say(self, task_id: str, text: str, line: str) -> None:
        if self._tell:
            self._tell(Event(task_id, plain.line(text), self._done, self._total))
        else:
            self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def refresh(self, folders: Mapping[str, Path]) -> None:
        """Update the bars from the folders of the running tasks."""
        for task_id in self._rows.keys() & folders.keys():
            if reading := read(folders[task_id]):
                self._bars.update(
                    self._rows[task_id],
                    total=reading.total,
                    completed=reading.done,
                    line=plain.line(reading.line()),
                )
