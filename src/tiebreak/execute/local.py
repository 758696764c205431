"""Run tasks on this machine: worker processes take them up as soon as what they read is ready."""

import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count
from multiprocessing.connection import wait

from rich.console import Console

from tiebreak.errors import Interrupted, TiebreakError
from tiebreak.execute.plan import state
from tiebreak.execute.progress import Display, duration
from tiebreak.execute.signals import Stop
from tiebreak.execute.worker import Message, Worker, log_file
from tiebreak.execute.workspace import Workspace
from tiebreak.pipeline import Task


@dataclass
class Outcome:
    """What became of a run's tasks, by id."""

    fresh: list[str] = field(default_factory=list)
    done: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)
    seconds: float = 0.0


def run(work: Workspace, chosen: Sequence[Task], stop: Stop | None = None) -> Outcome:
    """Make every artifact of the chosen tasks, which are in order, that is not fresh.

    A task that fails leaves those that need it skipped; all others are finished. Raises TiebreakError if a
    task that was not chosen has yet to run, `errors.Interrupted` once `stop` says so.
    """
    for text in missing_inputs(work, chosen).values():
        raise TiebreakError(text)
    began = time.monotonic()
    graph = _Graph(work, chosen, stop or Stop())
    outcome = graph.run()
    outcome.seconds = time.monotonic() - began
    return outcome


def missing_inputs(work: Workspace, chosen: Sequence[Task]) -> dict[str, str]:
    """What the chosen tasks would read that is neither there nor to be made, each with how to make it."""
    ids = {task.id for task in chosen}
    return {
        upstream.id: f"{task.id} needs {upstream.id}, which is {_why(work, upstream)}; "
        f"make it with: tiebreak run {work.arguments} --steps {upstream.step_name}"
        for task in chosen
        if state(work, task).status != "fresh"
        for upstream in task.upstream()
        if upstream.id not in ids and work.manifest(upstream) is None
    }


def _why(work: Workspace, task: Task) -> str:
    found = state(work, task)
    return f"{found.status} ({found.reason})"


class _Graph:
    """The state of one run: tasks wait, then run in a worker, then are settled."""

    def __init__(self, work: Workspace, chosen: Sequence[Task], stop: Stop) -> None:
        self.work = work
        self.waiting = list(chosen)
        self.ids = {task.id for task in chosen}
        self.stop = stop
        self.outcome = Outcome()
        self.workers: list[Worker] = []
        self.display = Display(Console(file=sys.stderr), len(chosen))

    def run(self) -> Outcome:
        told = False
        try:
            with self.display:
                while self.waiting or self._busy():
                    if self.stop() and not told:
                        told = True
                        self._tell_to_stop()
                    if not self.stop():
                        self._start_ready()
                    if not self._busy() and (self.stop() or not self.waiting):
                        break
                    self._listen()
        finally:
            for worker in self.workers:
                worker.end()
        if self.stop():
            raise Interrupted
        return self.outcome

    def _busy(self) -> list[Worker]:
        return [worker for worker in self.workers if worker.task]

    def _start_ready(self) -> None:
        """Settle what is fresh or cannot run any more, and give idle workers what is ready."""
        for task in list(self.waiting):
            upstream = [up.id for up in task.upstream() if up.id in self.ids]
            if any(up in self.outcome.failed or up in self.outcome.skipped for up in upstream):
                self.outcome.skipped.append(task.id)
                self.waiting.remove(task)
            elif all(up in self.outcome.done or up in self.outcome.fresh for up in upstream):
                self._start(task)

    def _start(self, task: Task) -> None:
        if state(self.work, task).status == "fresh":
            self.outcome.fresh.append(task.id)
            self.waiting.remove(task)
            self.display.end(task.id, "fresh")
        elif worker := self._idle_worker():
            worker.send(task, self.work.key(task))
            self.waiting.remove(task)
            self.display.start(task.id)

    def _idle_worker(self) -> Worker | None:
        for worker in self.workers:
            if worker.task is None:
                return worker
        if len(self.workers) >= self.work.recipe.compute.workers:
            return None
        taken = {worker.index for worker in self.workers}
        self.workers.append(Worker(self.work, next(n for n in count() if n not in taken)))
        return self.workers[-1]

    def _listen(self) -> None:
        """Wait for news from the workers, half a second at most."""
        ready = wait([worker.connection for worker in self.workers], timeout=0.5)
        for worker in list(self.workers):
            if worker.connection in ready:
                self._hear(worker)
        self.display.refresh({w.task.id: self.work.folder(w.task) for w in self.workers if w.task})

    def _hear(self, worker: Worker) -> None:
        try:
            message: Message = worker.connection.recv()
        except (EOFError, ConnectionError):
            self._bury(worker)
            return
        task = worker.task
        if task is None:
            return
        if message.kind == "say":
            self.display.say(task.id, message.text)
        elif message.kind == "progress":
            self.display.progress(task.id, message.text)
        else:
            worker.task = None
            self._end(task, message)

    def _end(self, task: Task, message: Message) -> None:
        if message.kind == "done":
            self.outcome.done.append(task.id)
            self.display.end(task.id, f"done in {duration(message.seconds)}")
        elif message.kind == "failed" or not self.stop():
            text = message.text or "a signal told its process alone to stop; its checkpoint is kept"
            self.outcome.failed[task.id] = text
            self.display.end(task.id, f"error: {text}")

    def _bury(self, worker: Worker) -> None:
        """A worker died by itself: its task failed, another worker takes its place."""
        self.workers.remove(worker)
        worker.process.join()
        code = worker.process.exitcode or 0
        how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
        memory = " (often: out of memory)" if code == -signal.SIGKILL else ""
        if worker.task and not self.stop():
            text = f"its process was {how}{memory}, more in {log_file(self.work, worker.task.id)}"
            self._end(worker.task, Message("failed", text))

    def _tell_to_stop(self) -> None:
        for worker in self._busy():
            worker.process.terminate()
            if worker.task:
                self.display.say(worker.task.id, "saving a checkpoint; Ctrl-C again to stop at once")
