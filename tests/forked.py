"""Processes that start at once: forked from one that has imported what takes seconds."""

import multiprocessing
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import paused_training
from tiny_models import temporary_folder

from tiebreak import cli
from tiebreak.baseline.model import TREES
from tiebreak.engine import multiprocess, multiprocess_worker, worker
from tiebreak.engine.signals import block_signals

IMPORTED = (
    "tiebreak.cli",
    "tiebreak.commands.demo",
    "tiebreak.slurm.jobs",
    "tiebreak.baseline.model",
    "tiebreak.evaluate.report",
    "tiebreak.judge.judge",
    "tiebreak.training.fit",
)
OUTPUTS = ("out", "err")
MOST_TREES = 10
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(list(IMPORTED))


class Forked:
    """A function at work in a process group of its own; much as a subprocess.Popen."""

    def __init__(self, function: Callable[..., Any], *arguments: Any, folder: Path | None = None) -> None:
        self._said = temporary_folder()
        for name in OUTPUTS:
            (self._said / name).touch()
        surroundings = (folder or Path.cwd(), dict(os.environ), self._said)
        self._process = CONTEXT.Process(target=_run, args=(*surroundings, function, arguments))
        self._process.start()
        assert self._process.pid is not None
        self.pid: int = self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self._process.exitcode

    def kill(self) -> None:
        self._process.kill()

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """What it said on stdout and stderr, once it has ended."""
        self._process.join(timeout)
        assert self._process.exitcode is not None, f"still there after {timeout} s"
        return self.said("out"), self.said("err")

    def said(self, output: str) -> str:
        """What it said so far on stdout ("out") or stderr ("err")."""
        return (self._said / output).read_text()

    def finish(self, timeout: float = 300) -> str:
        """What it said on stdout, once it has ended well."""
        out, err = self.communicate(timeout)
        assert self.returncode == 0, f"{out}\n{err}"
        return out


class Tiebreak(Forked):
    """`tiebreak` with these arguments. The processes that share a task are real ones unless `fork_ranks` says else."""

    def __init__(self, *arguments: object, folder: Path | None = None, fork_ranks: bool = False) -> None:
        command = ["tiebreak", *map(str, arguments)]
        super().__init__(
            _tiebreak, command, _fork_processes if fork_ranks else multiprocess._start_local, folder=folder
        )


def _run(
    folder: Path,
    environment: Mapping[str, str],
    outputs: Path,
    function: Callable[..., Any],
    arguments: tuple[Any, ...],
) -> None:
    os.setsid()
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    for number, name in enumerate(OUTPUTS, start=1):
        os.dup2(os.open(outputs / name, os.O_WRONLY | os.O_APPEND), number)
    function(*arguments)


def _tiebreak(command: list[str], start_ranks: Callable[..., Any]) -> None:
    sys.argv = command
    with quick_runs(start_ranks):
        cli.main()


@contextmanager
def quick_runs(start_ranks: Callable[..., Any] = multiprocess._start_local) -> Iterator[None]:
    """Workers are forked: a run spawns them, and each imports everything. Baselines are small."""
    TREES["max_iter"] = MOST_TREES
    forks = SimpleNamespace(get_context=lambda _: multiprocessing.get_context("fork"))
    with (
        mock.patch.object(worker, "multiprocessing", forks),
        mock.patch.object(multiprocess, "_start_local", start_ranks),
    ):
        yield


class _Rank(multiprocessing.get_context("fork").Process):  # type: ignore[misc]
    """A process that shares a task, as the subprocess.Popen it stands for."""

    def poll(self) -> int | None:
        return self.exitcode

    def wait(self) -> None:
        self.join()


def _fork_processes(command: list[str], size: int, environment: Mapping[str, str]) -> list[_Rank]:
    common = {**environment, "WORLD_SIZE": str(size)}
    places = [common | {"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(size)]
    started = [_Rank(target=_share, args=(Path(command[-1]), place)) for place in places]
    with block_signals():
        for process in started:
            process.start()
    return started


def _share(order: Path, environment: Mapping[str, str]) -> None:
    os.environ.clear()
    os.environ.update(environment)
    Path("/proc/self/comm").write_text(f"rank {environment['RANK']}")
    if "HOLD" in environment:
        paused_training.pause_after_saving()
    sys.exit(multiprocess_worker.main(multiprocess.WorkerSpec.model_validate_json(order.read_bytes())))
