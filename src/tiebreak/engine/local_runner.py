"""Local runner: worker processes run tasks on this machine as soon as their inputs are ready."""

import signal
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count
from multiprocessing.connection import wait

from tiebreak.console import Terminal
from tiebreak.engine.libraries import require_libraries
from tiebreak.engine.planner import Damaged, state, states
from tiebreak.engine.progress import Display, duration
from tiebreak.engine.signals import Stop
from tiebreak.engine.task_runner import threads
from tiebreak.engine.trackers import require_installed
from tiebreak.engine.worker import Message, Worker, log_file
from tiebreak.engine.workspace import Workspace
from tiebreak.errors import Interrupted, TiebreakError
from tiebreak.full_disk import full_disks
from tiebreak.pipeline.graph import Task
from tiebreak.runtime import Event

MOST_ATTEMPTS = 3
"""A task whose inputs are damaged again after so many times they were made again fails: then it is the disk."""


@dataclass
class Outcome:
    """Outcome of a run: task ids by result."""

    fresh: list[str] = field(default_factory=list)
    done: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)
    seconds: float = 0.0


def run(
    work: Workspace,
    chosen: Sequence[Task],
    stop: Stop | None = None,
    tell: Callable[[Event], None] | None = None,
    retries: int = 0,
) -> Outcome:
    """Run the chosen tasks, in topological order, that are not fresh.

    tell: called with each line of progress, instead of a display on stderr.
    An input that turns out to be damaged is made again first, chosen or not, with what it needs for that. A task whose process is killed,
    which may be for memory, starts again up to `retries` times with half the tokens in a forward. Tasks that depend on a failed one are skipped; all others are finished. Raises TiebreakError if an input from a
    task that was not chosen or a library is missing, `errors.Interrupted` once `stop` is set.
    """
    for text in missing_inputs(work, chosen).values():
        raise TiebreakError(text)
    require_installed(work.recipe.compute.report_to)
    require_libraries(found.task for found in states(work, chosen) if found.status != "fresh")
    threads(work.recipe.compute, 1)  # before any process starts: what is wrong with them is told once
    began = time.monotonic()
    run_state = _Run(work, chosen, stop or Stop(), tell, retries)
    outcome = run_state.run()
    outcome.seconds = time.monotonic() - began
    return outcome


def missing_inputs(work: Workspace, chosen: Sequence[Task]) -> dict[str, str]:
    """Inputs of the chosen tasks that neither exist nor would be made, each with the command that makes it."""
    ids = {task.id for task in chosen}
    snapshot = work.snapshot()
    return {
        upstream.id: f"{task.id} needs {upstream.id}, which is {_status_text(work, upstream)}; "
        f"make it with: tiebreak run {work.arguments} --steps {upstream.step.name}"
        for task, found in zip(chosen, states(work, chosen), strict=True)
        if found.status != "fresh"
        for upstream in task.upstream()
        if upstream.id not in ids and snapshot.manifest(upstream) is None
    }


def _unreadable(work: Workspace, task: Task) -> list[Task]:
    """The inputs of a task that are missing or damaged, and theirs in turn, in topological order."""
    found: dict[str, Task] = {}
    for up in task.upstream():
        if up.id not in found and not state(work, up).is_readable:
            found |= {needed.id: needed for needed in _unreadable(work, up)}
            found[up.id] = up
    return list(found.values())


def _status_text(work: Workspace, task: Task) -> str:
    found = state(work, task)
    return f"{found.status} ({found.reason})"


class _Run:
    """State of one run: its waiting tasks, its workers and its outcome."""

    def __init__(
        self,
        work: Workspace,
        chosen: Sequence[Task],
        stop: Stop,
        tell: Callable[[Event], None] | None = None,
        retries: int = 0,
    ) -> None:
        self.work = work
        self.waiting = list(chosen)
        self.ids = {task.id for task in chosen}
        self.stop = stop
        self.outcome = Outcome()
        self.workers: list[Worker] = []
        self.attempts: Counter[str] = Counter()
        self.retries = retries
        self.deaths: Counter[str] = Counter()
        self.display = Display(Terminal(stderr=True), len(chosen), tell)

    def run(self) -> Outcome:
        terminated = False
        try:
            with self.display:
                while self.waiting or self._busy_workers():
                    if self.stop() and not terminated:
                        terminated = True
                        self._terminate_workers()
                    if not self.stop():
                        self._start_ready_tasks()
                    if not self._busy_workers() and (self.stop() or not self.waiting):
                        break
                    self._receive_messages()
        finally:
            for worker in self.workers:
                worker.end()
        ended = {*self.outcome.fresh, *self.outcome.done, *self.outcome.failed, *self.outcome.skipped}
        if self.stop() and self.ids - ended:
            raise Interrupted
        return self.outcome

    def _busy_workers(self) -> list[Worker]:
        return [worker for worker in self.workers if worker.task]

    def _start_ready_tasks(self) -> None:
        """Skip tasks that are fresh or cannot run any more, and send ready ones to idle workers."""
        for task in list(self.waiting):
            upstream = [up.id for up in task.upstream() if up.id in self.ids]
            if any(up in self.outcome.failed or up in self.outcome.skipped for up in upstream):
                self.outcome.skipped.append(task.id)
                self.waiting.remove(task)
            elif all(up in self.outcome.done or up in self.outcome.fresh for up in upstream):
                self._start(task)

    def _start(self, task: Task) -> None:
        found = state(self.work, task)
        if found.status == "fresh":
            self.outcome.fresh.append(task.id)
            self.waiting.remove(task)
            self.display.end(task.id, "fresh")
        elif worker := self._idle_worker():
            if isinstance(found.reason, Damaged):
                self.display.log(task.id, f"{found.reason}; making it again")
            worker.send(task, self.work.key(task), with_half=self.deaths[task.id] > 0)
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

    def _receive_messages(self) -> None:
        """Receive messages from the workers; waits half a second at most."""
        ready = wait([worker.connection for worker in self.workers], timeout=0.5)
        for worker in list(self.workers):
            if worker.connection in ready:
                self._receive(worker)
        self.display.refresh({w.task.id: self.work.folder(w.task) for w in self.workers if w.task})

    def _receive(self, worker: Worker) -> None:
        try:
            message: Message = worker.connection.recv()
        except (EOFError, ConnectionError):
            self._handle_worker_death(worker)
            return
        task = worker.task
        if task is None:
            return
        if message.kind == "log":
            self.display.log(task.id, message.text)
        elif message.kind == "progress":
            self.display.progress(task.id, message.text)
        else:
            worker.task = None
            self._record_end(task, message)

    def _record_end(self, task: Task, message: Message) -> None:
        if message.kind == "done":
            self.outcome.done.append(task.id)
            self.display.end(task.id, f"done in {duration(message.seconds)}")
        elif message.kind == "damaged" and self.attempts[task.id] < MOST_ATTEMPTS:
            self._heal(task)
        elif message.kind == "died" and not self.stop():
            self._retry_or_fail(task, message.text)
        elif message.kind == "failed" or not self.stop():
            text = message.text or "a signal told its process alone to stop; its checkpoint is kept"
            self.outcome.failed[task.id] = text
            self.display.end(task.id, f"error: {text}")

    def _heal(self, task: Task) -> None:
        """Let a task wait until what it reads, and was damaged, is made again."""
        self.attempts[task.id] += 1
        self.display.pause(task.id)
        busy = {worker.task.id for worker in self.workers if worker.task}
        known = busy.union(waiting.id for waiting in self.waiting)
        needed = [up for up in _unreadable(self.work, task) if up.id not in known]
        for up in needed:
            for made in (self.outcome.fresh, self.outcome.done):
                if up.id in made:
                    made.remove(up.id)
        self.ids |= {up.id for up in needed}
        self.waiting += [*needed, task]
        self.display.expect(len(needed))

    def _handle_worker_death(self, worker: Worker) -> None:
        """Remove a dead worker and fail its task."""
        self.workers.remove(worker)
        worker.process.join()
        code = worker.process.exitcode or 0
        how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
        memory = " (often: out of memory)" if code == -signal.SIGKILL else ""
        if worker.task and not self.stop():
            disks = "".join(f"; {found}" for found in full_disks([self.work.run_dir]))
            text = f"its process was {how}{memory}, more in {log_file(self.work, worker.task.id)}{disks}"
            self._retry_or_fail(worker.task, text)

    def _retry_or_fail(self, task: Task, text: str) -> None:
        """Let a task whose process died wait to start again, unless it did so often enough."""
        if self.deaths[task.id] >= self.retries:
            self._record_end(task, Message("failed", text))
            return
        self.deaths[task.id] += 1
        self.display.pause(task.id)
        self.display.log(
            task.id,
            f"{text}; again, with half the tokens in a forward ({self.deaths[task.id]} of {self.retries})",
        )
        self.waiting.append(task)

    def _terminate_workers(self) -> None:
        for worker in self._busy_workers():
            worker.process.terminate()
            if worker.task:
                self.display.log(worker.task.id, "saving a checkpoint; Ctrl-C again to stop at once")
