"""One task, from its inputs to its manifest, in this process."""

import errno
import importlib.metadata
import os
import platform
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from tiebreak import __version__
from tiebreak.errors import Interrupted, TiebreakError
from tiebreak.execute import artifacts, ranks
from tiebreak.execute.artifacts import FAILURE, SCRATCH, Manifest
from tiebreak.execute.plan import state
from tiebreak.execute.progress import Reporter
from tiebreak.execute.workspace import Workspace
from tiebreak.pipeline import Source, Task
from tiebreak.recipe import Compute
from tiebreak.runtime import Runtime


def run_task(
    work: Workspace,
    task: Task,
    say: Callable[[str], None],
    should_stop: Callable[[], bool],
    redo: bool = False,
    device: str | None = None,
) -> Manifest:
    """Make a task's artifact, or go on where an earlier attempt was stopped. A fresh one is left as it is.

    Waits while another process is at work on it. Raises TiebreakError if an input is missing or damaged, or
    the disk is full; `errors.Interrupted` once `should_stop` says so. What failed is kept in error.txt.
    """
    folder = work.folder(task)
    with full_disk_is_clear(folder), artifacts.lock(folder, should_stop):
        manifest = work.manifest(task)
        if manifest and not redo and state(work, task).status == "fresh":
            artifacts.drop_leftovers(folder)
            return manifest
        # a checkpoint goes on only if its attempt never finished: what a finished one left is stale too
        (folder / artifacts.MANIFEST).unlink(missing_ok=True)
        artifacts.clear(folder, keep_scratch=manifest is None)
        try:
            return _make(work, task, folder, say, should_stop, device)
        except BaseException as error:
            artifacts.clear(folder)
            if not isinstance(error, (Interrupted, KeyboardInterrupt)):
                _keep_failure(folder, error)
            raise


def _make(
    work: Workspace,
    task: Task,
    folder: Path,
    say: Callable[[str], None],
    should_stop: Callable[[], bool],
    device: str | None,
) -> Manifest:
    began = time.monotonic()
    device = device or choose_device(work.recipe.compute)
    # before they are verified: one that is made again from here on makes this task stale
    read = work.inputs(task)
    inputs = {name: tuple(_ready(work, item) for item in group) for name, group in task.inputs.items()}
    artifacts.open_scratch(folder, read)
    if ranks.wanted(work, task):
        metrics = ranks.run(work, task, inputs, device, say, should_stop)
    else:
        reporter = Reporter(folder, say, work.recipe.compute.log_every)
        runtime = runtime_of(work.recipe.compute, folder, device, should_stop, reporter)
        metrics = task.step.run(task.settings, inputs, folder, runtime)
    made_of = [made for item in task.upstream() if (made := work.manifest(item))]
    manifest = Manifest(
        step=task.step_name,
        name=task.name,
        version=task.step.VERSION,
        key=work.key(task),
        settings=task.settings.model_dump(mode="json"),
        inputs=read,
        files=artifacts.records(folder),
        learned_from=united(metrics.pop("learned_from", ()), *(made.learned_from for made in made_of)),
        fitted_on=united(metrics.pop("fitted_on", ()), *(made.fitted_on for made in made_of)),
        metrics=metrics,
        seconds=round(time.monotonic() - began, 3),
        finished=time.time(),
        versions=versions(),
        hardware=hardware(device),
    )
    artifacts.seal(folder, manifest)
    return manifest


def united(*groups: Iterable[str]) -> tuple[str, ...]:
    """All names, each once, in order."""
    return tuple(sorted(set().union(*groups)))


def runtime_of(
    compute: Compute,
    folder: Path,
    device: str,
    should_stop: Callable[[], bool],
    report: Reporter | None = None,
) -> Runtime:
    """The surroundings of a task that works in `folder`; without `report`, of a process that only helps."""
    common = Runtime(
        device=device,
        scratch=folder / SCRATCH,
        train_tokens=compute.train_tokens,
        score_tokens=compute.score_tokens,
        checkpoint_minutes=compute.checkpoint_minutes,
        should_stop=should_stop,
        leads=report is not None,
    )
    return common if report is None else replace(common, report=report)


def _ready(work: Workspace, item: Task | Source) -> Path:
    """An input as a folder or file that is complete and undamaged."""
    if isinstance(item, Source):
        return work.resolve(item)
    folder, manifest = work.folder(item), work.manifest(item)
    if manifest is None:
        found = state(work, item)
        raise TiebreakError(
            f"{item.id} is {found.status} ({found.reason}); "
            f"make it with: tiebreak run {work.arguments} --steps {item.step_name}"
        )
    if problem := artifacts.damage(folder, manifest):
        raise TiebreakError(f"{folder}: {problem}; {make_again(work, item)}")
    return folder


def make_again(work: Workspace, task: Task) -> str:
    """What mends a task's artifact."""
    return f"make it again with: tiebreak task {work.arguments} {task.id} --redo"


def choose_device(compute: Compute) -> str:
    """The torch device type that `compute.device` means here. Raises TiebreakError if there is none."""
    if compute.device == "cpu":
        return "cpu"
    import torch

    if torch.cuda.is_available():
        return "cuda"
    if compute.device == "cuda":
        raise TiebreakError("compute.device is cuda, but torch sees no GPU; use --set compute.device=auto")
    return "cpu"


def use_threads(compute: Compute, workers: int = 1) -> None:
    """Give this process its share of the cores; to be called before torch is imported.

    `compute.threads` wins, then an OMP_NUM_THREADS that is set already.
    """
    cores = min(len(os.sched_getaffinity(0)), int(os.environ.get("SLURM_CPUS_ON_NODE", "1000000")))
    share = max(1, cores // workers)
    threads = str(compute.threads or os.environ.get("OMP_NUM_THREADS") or share)
    for variable in ranks.THREADS:
        os.environ[variable] = threads


def versions() -> dict[str, str]:
    """The versions that an artifact was made with."""
    packages = {package: importlib.metadata.version(package) for package in ("torch", "transformers")}
    return {"python": platform.python_version(), "tiebreak": __version__} | packages


def hardware(device: str) -> dict[str, Any]:
    """The machine that an artifact was made on."""
    found = {"host": platform.node(), "machine": platform.machine(), "cores": len(os.sched_getaffinity(0))}
    if device != "cuda":
        return found
    import torch

    return found | {"gpu": torch.cuda.get_device_name()}


def _keep_failure(folder: Path, error: BaseException) -> None:
    with suppress(OSError):  # a full disk: the error is told anyway
        artifacts.write_atomically(folder / FAILURE, f"{describe(error)}\n")


def describe(error: BaseException) -> str:
    """An error in one line: its text if it is meant for people, else its type too."""
    return str(error) if isinstance(error, TiebreakError) else f"{type(error).__name__}: {error}"


@contextmanager
def full_disk_is_clear(folder: Path) -> Iterator[None]:
    """Turn any library's complaint about a full disk into one clear error."""
    try:
        yield
    except Exception as error:
        if not _disk_is_full(error):
            raise
        free = shutil.disk_usage(folder if folder.exists() else folder.anchor).free / 2**30
        raise TiebreakError(
            f"the disk is full ({free:.1f} GiB left at {folder}); nothing finished is lost: "
            "free some space and run the same command again"
        ) from error


def _disk_is_full(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        if "No space left on device" in str(error) or "Disk quota exceeded" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False
