"""Worker process of a local run: runs the tasks it is sent, one after another, and exits with the run."""

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
from types import ModuleType
from typing import Literal

from tiebreak import plain, terminal
from tiebreak.engine.signals import Stop, block_signals, kill_on_parent_exit, unblock_signals
from tiebreak.engine.task_runner import choose_device, describe_error, run_task, use_threads
from tiebreak.engine.workspace import Workspace
from tiebreak.errors import DamagedInput, Interrupted, ProcessDied, TiebreakError
from tiebreak.full_disk import full_disk_as_error
from tiebreak.output import new_folder, no_link
from tiebreak.pipeline.graph import Task
from tiebreak.recipe.schema import Recipe
from tiebreak.regular_file import require_regular
from tiebreak.runtime import TRAIN_TOKENS

_JOIN_SECONDS = 5.0


@dataclass(frozen=True)
class Message:
    """Message of a worker: a log line, a line of progress, or the end of a task."""

    kind: Literal["log", "progress", "done", "failed", "died", "damaged", "interrupted"]
    text: str = ""
    seconds: float = 0.0


class Worker:
    """Handle of a worker process. task: its current task, None while idle. index: selects its GPU."""

    def __init__(self, work: Workspace, index: int) -> None:
        new_folder(work.place("logs"))
        self.index = index
        context = multiprocessing.get_context("spawn")
        self.connection, worker_end = context.Pipe()
        self.process = context.Process(
            target=_serve, args=(worker_end, work.path, work.overrides, work.expand, index, os.getpid())
        )
        with block_signals(), _hidden_main_module():
            self.process.start()
        worker_end.close()
        self.task: Task | None = None

    def send(self, task: Task, key: str, with_half: bool = False) -> None:
        """Send a task to the idle worker, which verifies its `key`. with_half: the tokens of a forward, for less memory."""
        self.task = task
        with suppress(BrokenPipeError):  # it died: the run handles that as any other death
            self.connection.send((task.id, key, with_half))

    def end(self) -> None:
        """Let an idle process exit; kill one that is busy or does not exit."""
        self.connection.close()
        self.process.join(0 if self.task else _JOIN_SECONDS)
        self.process.kill()
        self.process.join()


@contextmanager
def _hidden_main_module() -> Iterator[None]:
    """Keep processes that start from running this one's script again, which may train without `if __name__ == "__main__"`."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def log_file(work: Workspace, task_id: str) -> Path:
    """The log file for the output of a task's libraries."""
    return work.place("logs", f"{task_id.replace('/', '-')}.log")


def _serve(
    connection: Connection,
    path: Path,
    overrides: tuple[str, ...],
    expand: Callable[[Recipe], tuple[Task, ...]],
    index: int,
    parent: int,
) -> None:
    kill_on_parent_exit(parent)
    with terminal.guarded():
        _run_tasks(connection, Workspace(path, overrides, expand), index)


def _run_tasks(connection: Connection, work: Workspace, index: int) -> None:
    stop = Stop().install()
    unblock_signals()
    use_threads(work.recipe.compute, work.recipe.compute.workers)
    logger = logging.getLogger("tiebreak")
    logger.setLevel(logging.INFO)
    logger.addHandler(_ForwardingHandler(connection))
    logging.captureWarnings(True)
    while True:
        try:
            task_id, key, with_half = connection.recv()
        except EOFError:
            return
        chosen = with_half_the_tokens(work) if with_half else work
        connection.send(_run_task(chosen, task_id, key, index, connection, stop))


def with_half_the_tokens(work: Workspace) -> Workspace:
    """A workspace whose tasks take half the tokens in a forward; they have the same keys."""
    compute = work.recipe.compute
    halves = (
        f"compute.train_tokens={max(1, (compute.train_tokens or TRAIN_TOKENS) // 2)}",
        f"compute.score_tokens={max(1, compute.score_tokens // 2)}",
    )
    return Workspace(work.path, (*work.overrides, *halves), work.expand)


class _ForwardingHandler(logging.Handler):
    """Handler that sends log records to the run, which prints them above its bars."""

    def __init__(self, connection: Connection) -> None:
        super().__init__()
        self._connection = connection

    def emit(self, record: logging.LogRecord) -> None:
        prefix = "" if record.levelno < logging.WARNING else f"{record.levelname.lower()}: "
        self._connection.send(Message("log", prefix + plain.line(record.getMessage())))


def _run_task(
    work: Workspace, task_id: str, key: str, index: int, connection: Connection, stop: Stop
) -> Message:
    try:
        log = log_file(work, task_id)
        require_regular(log, "remove it")
        with full_disk_as_error(log, is_file=True), _redirect_output(log):
            return _run_logged(work, task_id, key, index, connection, stop, log)
    except TiebreakError as error:
        return Message("failed", str(error))
    except OSError as error:
        return Message("failed", f"cannot write the log of {task_id}: {error.filename}: {error.strerror}")


def _run_logged(
    work: Workspace, task_id: str, key: str, index: int, connection: Connection, stop: Stop, log: Path
) -> Message:
    try:
        task = work.find(task_id)
        if key != work.key(task):
            raise TiebreakError(f"what {task.id} reads has changed while the run went on; run again")
        device = _assign_gpu(index, work.recipe.compute.workers, choose_device(work.recipe.compute))
        manifest = run_task(
            work, task, lambda line: connection.send(Message("progress", line)), stop, device=device
        )
    except (Interrupted, KeyboardInterrupt):
        return Message("interrupted")
    except DamagedInput as error:
        return Message("damaged", str(error))
    except ProcessDied as error:
        return Message("died", str(error))
    except TiebreakError as error:
        return Message("failed", str(error))
    except Exception as error:
        traceback.print_exc()
        return Message("failed", f"{describe_error(error)} (more in {log})")
    finally:
        _free_memory()
    return Message("done", seconds=manifest.seconds)


@contextmanager
def _redirect_output(path: Path) -> Iterator[None]:
    """Redirect the output of this process, C libraries included, to the end of a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a", encoding="utf-8", opener=no_link) as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        try:
            yield
        finally:
            sys.stdout.flush()
            sys.stderr.flush()


def _assign_gpu(index: int, workers: int, device: str) -> str:
    """Assign the worker to one of the machine's GPUs; workers on one card share its memory evenly."""
    if device == "cuda":
        import torch

        from tiebreak.model.memory_budget import limit_memory_share

        cards = torch.cuda.device_count()
        torch.cuda.set_device(index % cards)
        limit_memory_share(len(range(index % cards, workers, cards)))
    return device


def _free_memory() -> None:
    """Free the GPU memory of the last task."""
    import gc

    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
