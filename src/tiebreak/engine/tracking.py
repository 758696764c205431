"""Tracking of a running task: its figures and what it made, sent to the trackers that the recipe names.

A training is a function of its task's key. So a task has one run in each tracker, whose id is of the run's folder and
that key, and the figures of a step are sent there once: a mark in the run's folder says how far they are.
"""

import hashlib
import json
import logging
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, Self

from tiebreak import plain
from tiebreak.engine.trackers import TrackedTask, Tracker, open_tracker, require_installed
from tiebreak.engine.workspace import Workspace
from tiebreak.output import new_folder, write_atomically
from tiebreak.pipeline.graph import Task
from tiebreak.recipe.execution import TrackerName

log = logging.getLogger(__name__)

SEND_EVERY = 1.0
"""Seconds between two deliveries."""
FOLDER = "tracking"
Points = Sequence[tuple[int, Mapping[str, float]]]
"""Figures by step, in order."""


class Tracking:
    """The trackers of one task, as a context manager. Nothing is opened before there are figures.

    Raises TiebreakError if the library of one is not installed.
    """

    def __init__(self, work: Workspace, task: Task) -> None:
        wanted = dict.fromkeys(work.recipe.compute.report_to) if task.step.trains or task.step.shows else ()
        require_installed(tuple(wanted))
        self._shows = task.step.shows
        self._sessions = [_Session(name, _tracked(work, task)) for name in wanted]
        self._points: list[tuple[int, Mapping[str, float]]] = []
        self._last: tuple[float, int] | None = None
        self._sent = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._send()
        for session in self._sessions:
            session.close()

    def reporting(self, report: Callable[..., None]) -> Callable[..., None]:
        """A progress callback that tracks the figures of each step too."""
        if not self._sessions:
            return report

        def both(phase: str, done: int, total: int, unit: str, **figures: float) -> None:
            report(phase, done, total, unit, **figures)
            if figures:
                self._add(phase, done, unit, figures)

        return both

    def finish(self, folder: Path, metrics: Mapping[str, Any]) -> None:
        """Track the metrics of a task that is done, and the files in its folder that its step shows."""
        self._send()
        figures = {
            f"result/{name}": float(value)
            for name, value in metrics.items()
            if isinstance(value, int | float) and not isinstance(value, bool)
        }
        for session in self._sessions:
            session.finish(figures, [folder / file for file in self._shows])

    def _add(self, phase: str, step: int, unit: str, figures: Mapping[str, float]) -> None:
        now = time.monotonic()
        named = {f"{phase}/{name}": value for name, value in figures.items()}
        if self._last and now > self._last[0]:
            named[f"{phase}/{unit}_per_second"] = (step - self._last[1]) / (now - self._last[0])
        self._last = now, step
        self._points.append((step, named))
        if now - self._sent >= SEND_EVERY:
            self._send()

    def _send(self) -> None:
        points, self._points, self._sent = self._points, [], time.monotonic()
        for session in self._sessions:
            session.send(points)


def _tracked(work: Workspace, task: Task) -> TrackedTask:
    run_dir = work.run_dir.resolve()
    return TrackedTask(
        id=hashlib.sha256(f"{run_dir}\n{work.key(task)}".encode()).hexdigest()[:16],
        name=task.id.replace("/", "-"),
        project=work.recipe.name,
        group=f"{run_dir.parent.name}/{run_dir.name}",
        settings=task.settings.model_dump(mode="json"),
        folder=new_folder(work.place(FOLDER)),
    )


class _Session:
    """The run of a task in one tracker, opened when first needed.

    If it fails, it is left out from then on, with a warning: no training ends for its curve's sake.
    """

    def __init__(self, name: TrackerName, task: TrackedTask) -> None:
        self._name, self._task = name, task
        self._tracker: Tracker | None = None
        self._failed = False
        self._file = task.folder / f"{task.unique_name}.{name}.json"

    def send(self, points: Points) -> None:
        """Log the points that were not yet. They are marked first: a kill may lose some, and repeats none."""
        mark = self._mark()
        new = [(step, figures) for step, figures in points if mark is not None and step > mark]
        if not new:
            return

        def log_all(tracker: Tracker) -> None:
            self._set_mark(new[-1][0])
            for step, figures in new:
                tracker.log(step, figures)
            tracker.flush()

        self._use(log_all)

    def finish(self, figures: Mapping[str, float], files: Sequence[Path]) -> None:
        """Log the figures of a task that is done, after its last step, and its files."""
        mark = self._mark()
        if mark is None:
            return

        def log_end(tracker: Tracker) -> None:
            self._set_mark(None)
            tracker.log(mark + 1, figures)
            tracker.flush()
            for file in files:
                tracker.save(file)

        self._use(log_end)

    def close(self) -> None:
        if self._tracker is not None:
            self._use(lambda tracker: tracker.close())
            self._tracker = None

    def _use(self, use: Callable[[Tracker], None]) -> None:
        if self._failed:
            return
        try:
            with redirect_stdout(sys.stderr):  # results alone go to stdout, and these libraries talk
                if self._tracker is None:
                    self._tracker = open_tracker(self._name, self._task)
                use(self._tracker)
        except Exception as error:  # of any library, disk or server
            log.warning("%s: %s; %s goes on without it", self._name, plain.message(error), self._task.name)
            self._failed = True

    def _mark(self) -> int | None:
        """The last step that was sent, 0 before the first; None once the task is done."""
        try:
            mark: int | None = json.loads(self._file.read_bytes())["step"]
        except (OSError, ValueError, LookupError, TypeError):
            return 0
        return mark

    def _set_mark(self, step: int | None) -> None:
        write_atomically(self._file, json.dumps({"step": step}) + "\n")
