"""One of a run's processes: does the tasks it is sent, one after another, and dies with the run."""

import logging
import multiprocessing
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Literal

from tiebreak.errors import Interrupted, TiebreakError
from tiebreak.execute.signals import Stop, die_with, hear, held_back
from tiebreak.execute.task import choose_device, describe, run_task, use_threads
from tiebreak.execute.workspace import Workspace
from tiebreak.output import new_folder
from tiebreak.pipeline import Task
from tiebreak.recipe import Recipe

_PATIENCE = 5.0


@dataclass(frozen=True)
class Message:
    """What a worker tells: a line to keep, a line of progress, or how a task ended."""

    kind: Literal["say", "progress", "done", "failed", "interrupted"]
    text: str = ""
    seconds: float = 0.0


class Worker:
    """The run's end of a worker process. `task` is what it works on, None while it is idle; `index` is its card's."""

    def __init__(self, work: Workspace, index: int) -> None:
        new_folder(work.run_dir / "logs")
        self.index = index
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(
            target=_serve, args=(theirs, work.path, work.overrides, work.expand, index, os.getpid())
        )
        with held_back():
            self.process.start()
        theirs.close()
        self.task: Task | None = None

    def send(self, task: Task, key: str) -> None:
        """Give the idle worker a task; `key` must be what it finds itself."""
        self.task = task
        with suppress(BrokenPipeError):  # it died: the run hears of it as of any other death
            self.connection.send((task.id, key))

    def end(self) -> None:
        """Let an idle process end by itself; kill one that is at work, or does not end."""
        self.connection.close()
        self.process.join(0 if self.task else _PATIENCE)
        self.process.kill()
        self.process.join()


def log_file(work: Workspace, task_id: str) -> Path:
    """Where all that a task's libraries print goes."""
    return work.run_dir / "logs" / f"{task_id.replace('/', '-')}.log"


def _serve(
    connection: Connection,
    path: Path,
    overrides: tuple[str, ...],
    expand: Callable[[Recipe], tuple[Task, ...]],
    index: int,
    parent: int,
) -> None:
    die_with(parent)
    stop = Stop().install()
    hear()
    work = Workspace(path, overrides, expand)
    use_threads(work.recipe.compute, work.recipe.compute.workers)
    logger = logging.getLogger("tiebreak")
    logger.setLevel(logging.INFO)
    logger.addHandler(_Forward(connection))
    logging.captureWarnings(True)
    while True:
        try:
            task_id, key = connection.recv()
        except EOFError:
            return
        connection.send(_attempt(work, task_id, key, index, connection, stop))


class _Forward(logging.Handler):
    """Sends the project's log records to the run, which prints them beside its bars."""

    def __init__(self, connection: Connection) -> None:
        super().__init__()
        self._connection = connection

    def emit(self, record: logging.LogRecord) -> None:
        prefix = "" if record.levelno < logging.WARNING else f"{record.levelname.lower()}: "
        self._connection.send(Message("say", prefix + record.getMessage()))


def _attempt(
    work: Workspace, task_id: str, key: str, index: int, connection: Connection, stop: Stop
) -> Message:
    with _output_to(log_file(work, task_id)):
        try:
            task = work.find(task_id)
            if key != work.key(task):
                raise TiebreakError(f"what {task.id} reads has changed while the run went on; run again")
            device = _card(index, work.recipe.compute.workers, choose_device(work.recipe.compute))
            manifest = run_task(
                work, task, lambda line: connection.send(Message("progress", line)), stop, device=device
            )
        except (Interrupted, KeyboardInterrupt):
            return Message("interrupted")
        except TiebreakError as error:
            return Message("failed", str(error))
        except Exception as error:
            traceback.print_exc()
            return Message("failed", f"{describe(error)} (more in {log_file(work, task_id)})")
        finally:
            _free_memory()
    return Message("done", seconds=manifest.seconds)


@contextmanager
def _output_to(path: Path) -> Iterator[None]:
    """Append whatever this process prints, C libraries included, to a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        try:
            yield
        finally:
            sys.stdout.flush()
            sys.stderr.flush()


def _card(index: int, workers: int, device: str) -> str:
    """Spread the workers over the machine's GPUs; those on one card share its memory evenly."""
    if device == "cuda":
        import torch

        from tiebreak.model.budget import take_share

        cards = torch.cuda.device_count()
        torch.cuda.set_device(index % cards)
        take_share(len(range(index % cards, workers, cards)))
    return device


def _free_memory() -> None:
    """Give back what the last task held on its card."""
    import gc

    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
