"""Task runner: runs one task in this process, from its inputs to its manifest."""

import importlib.metadata
import os
import platform
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from tiebreak import __version__, plain
from tiebreak.engine import artifacts, multiprocess, progress
from tiebreak.engine.artifacts import FAILURE, SCRATCH, Manifest
from tiebreak.engine.planner import state
from tiebreak.engine.progress import Reporter
from tiebreak.engine.tracking import Tracking
from tiebreak.engine.workspace import Workspace
from tiebreak.errors import DamagedInput, Interrupted, TiebreakError
from tiebreak.full_disk import FullDisk, full_disk_as_error
from tiebreak.output import write_atomically
from tiebreak.pipeline.graph import Source, Task
from tiebreak.recipe.environment import count
from tiebreak.recipe.execution import Compute
from tiebreak.runtime import Runtime


def run_task(
    work: Workspace,
    task: Task,
    log: Callable[[str], None],
    should_stop: Callable[[], bool],
    redo: bool = False,
    device: str | None = None,
) -> Manifest:
    """Make a task's artifact, or resume an earlier attempt. A fresh artifact is left unchanged.

    Waits while another process holds its lock. Raises TiebreakError if an input is missing or damaged (which plans then know), or the disk is
    full; `errors.Interrupted` once `should_stop` returns True. An error is written to error.txt.
    """
    folder = work.folder(task)
    with full_disk_as_error(folder), artifacts.lock(folder, should_stop):
        manifest = work.manifest(task)
        if manifest and not redo and state(work, task).status == "fresh":
            artifacts.drop_leftovers(folder)
            return manifest
        # resume only an attempt that never finished: leftovers of a finished one are stale too
        (folder / artifacts.MANIFEST).unlink(missing_ok=True)
        if killed := progress.read(folder):  # a turn that ended on its own leaves none
            artifacts.store_seconds(folder, killed.seconds)
        artifacts.clear(folder, keep_scratch=manifest is None)
        began = time.monotonic()
        try:
            with full_disk_as_error(folder):
                return _make(work, task, folder, log, should_stop, device, began)
        except BaseException as error:
            artifacts.clear(folder)  # first, since this makes room where the disk is full
            with suppress(FullDisk):  # the error is raised anyway
                artifacts.store_seconds(folder, artifacts.seconds_spent(folder) + time.monotonic() - began)
            if not isinstance(error, (Interrupted, KeyboardInterrupt)):
                _write_failure(folder, error)
            raise


def _make(
    work: Workspace,
    task: Task,
    folder: Path,
    log: Callable[[str], None],
    should_stop: Callable[[], bool],
    device: str | None,
    began: float,
) -> Manifest:
    device = device or choose_device(work.recipe.compute)
    # recorded before they are verified: an input made again from here on makes this task stale
    input_records = work.inputs(task)
    _require_whole_inputs(work, task)
    inputs = {
        name: tuple(work.resolve(item) if isinstance(item, Source) else work.folder(item) for item in group)
        for name, group in task.inputs.items()
    }
    artifacts.open_scratch(folder, input_records)
    with Tracking(work, task) as tracking:
        if multiprocess.is_multiprocess(work, task):
            metrics = multiprocess.run(work, task, inputs, device, log, should_stop)
        else:
            report = tracking.reporting(Reporter(folder, log, work.recipe.compute.log_every))
            runtime = runtime_of(work.recipe.compute, folder, device, should_stop, report)
            metrics = task.step.run(task.settings, inputs, folder, runtime)
        tracking.finish(folder, metrics)
    upstream_manifests = [upstream for item in task.upstream() if (upstream := work.manifest(item))]
    manifest = Manifest(
        step=task.step.name,
        name=task.name,
        version=task.step.version,
        key=work.key(task),
        settings=task.settings.model_dump(mode="json"),
        inputs=input_records,
        files=artifacts.file_records(folder),
        learned_from=sorted_union(
            metrics.pop("learned_from", ()), *(upstream.learned_from for upstream in upstream_manifests)
        ),
        fitted_on=sorted_union(
            metrics.pop("fitted_on", ()), *(upstream.fitted_on for upstream in upstream_manifests)
        ),
        metrics=metrics,
        seconds=round(artifacts.seconds_spent(folder) + time.monotonic() - began, 3),
        gpus=_gpus(work, task, device),
        finished=time.time(),
        versions=versions(),
        hardware=hardware(device),
    )
    artifacts.complete(folder, manifest)
    return manifest


def _gpus(work: Workspace, task: Task, device: str) -> int:
    if device != "cuda":
        return 0
    return work.recipe.compute.processes if multiprocess.is_multiprocess(work, task) else 1


def sorted_union(*groups: Iterable[str]) -> tuple[str, ...]:
    """Sorted union of names."""
    return tuple(sorted(set().union(*groups)))


def runtime_of(
    compute: Compute,
    folder: Path,
    device: str,
    should_stop: Callable[[], bool],
    report: Callable[..., None] | None = None,
) -> Runtime:
    """The runtime of a task in `folder`; without `report`, of a process that is not the main one."""
    common = Runtime(
        device=device,
        scratch=folder / SCRATCH,
        train_tokens=compute.train_tokens,
        score_tokens=compute.score_tokens,
        checkpoint_minutes=compute.checkpoint_minutes,
        should_stop=should_stop,
        is_main=report is not None,
    )
    return common if report is None else replace(common, report=report)


def _require_whole_inputs(work: Workspace, task: Task) -> None:
    """Raises TiebreakError if an input is not made, DamagedInput if some are damaged, which plans then know."""
    problems = {}
    for item in task.upstream():
        folder, manifest = work.folder(item), work.manifest(item)
        if manifest is None:
            found = state(work, item)
            raise TiebreakError(
                f"{item.id} is {found.status} ({found.reason}); "
                f"make it with: tiebreak run {work.arguments} --steps {item.step.name}"
            )
        if problem := artifacts.find_damage(folder, manifest):
            artifacts.distrust(folder, manifest)
            problems[item.id] = problem
    if problems:
        listed = "; ".join(f"{name}: {problem}" for name, problem in problems.items())
        raise DamagedInput(f"{listed}; {make_again(work)}")


def make_again(work: Workspace) -> str:
    """The command that makes what is damaged or missing."""
    return f"make it again with: tiebreak run {work.arguments}"


def choose_device(compute: Compute) -> str:
    """The torch device type for `compute.device` on this machine. Raises TiebreakError if there is none."""
    if compute.device == "cpu":
        return "cpu"
    import torch

    if torch.cuda.is_available():
        return "cuda"
    if compute.device == "cuda":
        raise TiebreakError("compute.device is cuda, but torch sees no GPU; use --set compute.device=auto")
    return "cpu"


def use_threads(compute: Compute, workers: int = 1) -> None:
    """Set this process's thread count (see `threads`); call it before torch is imported."""
    for variable in multiprocess.THREAD_VARIABLES:
        os.environ[variable] = str(threads(compute, workers))


def threads(compute: Compute, workers: int) -> int:
    """The threads of one of some workers: its share of the cores.

    `compute.threads` has priority, then an OMP_NUM_THREADS already set. Raises TiebreakError for a variable that holds no
    number.
    """
    cores = min(len(os.sched_getaffinity(0)), count(os.environ, "SLURM_CPUS_ON_NODE", 1_000_000))
    share = max(1, cores // workers)
    return compute.threads or count(os.environ, "OMP_NUM_THREADS", 0) or share


def versions() -> dict[str, str]:
    """Versions of Python and packages, for the manifest."""
    packages = {package: importlib.metadata.version(package) for package in ("torch", "transformers")}
    return {"python": platform.python_version(), "tiebreak": __version__} | packages


def hardware(device: str) -> dict[str, Any]:
    """Hardware of this machine, for the manifest."""
    found = {"host": platform.node(), "machine": platform.machine(), "cores": len(os.sched_getaffinity(0))}
    if device != "cuda":
        return found
    import torch

    return found | {"gpu": torch.cuda.get_device_name()}


def _write_failure(folder: Path, error: BaseException) -> None:
    with suppress(OSError, FullDisk):  # the error is raised anyway
        write_atomically(folder / FAILURE, f"{describe_error(error)}\n")


def describe_error(error: BaseException) -> str:
    """Format an error in one line: its text, with its type unless it is a TiebreakError."""
    if isinstance(error, TiebreakError):
        return str(error)
    return plain.line(f"{type(error).__name__}: {error}")
