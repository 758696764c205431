"""Multiprocess launcher: one task run by several processes, with one error message when one of them fails.

They are children of this process, or in a Slurm job with several tasks processes by srun, one each. They stop when a
file appears, since signals arrive in any order; when one fails the others are killed.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from tiebreak.engine import progress
from tiebreak.engine.artifacts import SCRATCH
from tiebreak.engine.signals import block_signals
from tiebreak.engine.workspace import Workspace
from tiebreak.errors import Interrupted, ProcessDied, TiebreakError
from tiebreak.full_disk import full_disks
from tiebreak.output import write_atomically
from tiebreak.pipeline.graph import Task
from tiebreak.recipe.environment import count

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS")
"""Thread count variables of numerical libraries; torch prefers MKL's to OpenMP's."""

_FOLDER = "ranks"
_GRACE_SECONDS = 1.0


class WorkerSpec(BaseModel):
    """Specification for the worker processes. parent: the process to exit with, 0 where srun is the parent."""

    recipe: Path
    overrides: tuple[str, ...]
    task: str
    key: str
    inputs: dict[str, tuple[Path, ...]]
    folder: Path
    device: str
    first_card: int
    parent: int

    @property
    def exchange_folder(self) -> Path:
        """The folder for files between the processes and their parent."""
        return self.folder / SCRATCH / _FOLDER

    @property
    def stop(self) -> Path:
        return self.exchange_folder / "stop"

    @property
    def metrics(self) -> Path:
        return self.exchange_folder / "metrics.json"

    def failure(self, rank: int) -> Path:
        return self.exchange_folder / f"failure-{rank}.json"


class Failure(BaseModel):
    """Failure of a process; `of_a_peer` if it only lost the connection to another."""

    text: str
    of_a_peer: bool
    when: float


def is_multiprocess(work: Workspace, task: Task) -> bool:
    """True if the task runs in several processes."""
    return task.step.is_multiprocess and work.recipe.compute.processes > 1


def run(
    work: Workspace,
    task: Task,
    inputs: Mapping[str, tuple[Path, ...]],
    device: str,
    log: Callable[[str], None],
    should_stop: Callable[[], bool],
) -> dict[str, Any]:
    """Run a task in `compute.processes` processes, and return its metrics.

    Raises Interrupted once they have stopped on `should_stop`, TiebreakError if one fails, ProcessDied if one is killed.
    """
    size, in_job = work.recipe.compute.processes, _tasks_of_job() == work.recipe.compute.processes
    spec = WorkerSpec(
        recipe=work.path.resolve(),
        overrides=work.overrides,
        task=task.id,
        key=work.key(task),
        inputs={name: tuple(path.absolute() for path in paths) for name, paths in inputs.items()},
        folder=work.folder(task).absolute(),
        device=device,
        first_card=_first_card(device, size),
        parent=0 if in_job else os.getpid(),
    )
    shutil.rmtree(spec.exchange_folder, ignore_errors=True)
    spec.exchange_folder.mkdir(parents=True)
    path = spec.exchange_folder / "order.json"
    write_atomically(path, spec.model_dump_json())
    store, environment = _rendezvous(in_job)
    command = [sys.executable, "-m", "tiebreak.engine.multiprocess_worker", str(path)]
    processes = (
        _start_by_srun(command, size, environment) if in_job else _start_local(command, size, environment)
    )
    try:
        _wait(processes, spec, log, should_stop)
        _raise_on_failure(processes, spec, size, should_stop)
        metrics: dict[str, Any] = json.loads(spec.metrics.read_text(encoding="utf-8"))
        return metrics
    finally:
        for process in processes:
            process.kill()
            process.wait()
        del store
        shutil.rmtree(spec.exchange_folder, ignore_errors=True)


def _tasks_of_job() -> int:
    return count(os.environ, "SLURM_NTASKS", 1) if "SLURM_JOB_ID" in os.environ else 1


def _first_card(device: str, size: int) -> int:
    """The first GPU of a worker's processes, after those of the workers before it."""
    if device != "cuda":
        return 0
    import torch

    return torch.cuda.current_device() * size


def _rendezvous(in_job: bool) -> tuple[Any, dict[str, str]]:
    """A TCP store for the rendezvous, hosted by this process, and the environment that names it."""
    from torch.distributed import TCPStore  # type: ignore[attr-defined]

    host = os.environ.get("SLURMD_NODENAME", socket.gethostname()) if in_job else "127.0.0.1"
    store = TCPStore(host, 0, is_master=True, wait_for_workers=False)
    local = {} if in_job else {"GLOO_SOCKET_IFNAME": "lo"}
    return store, {
        **local,
        **os.environ,
        "MASTER_ADDR": host,
        "MASTER_PORT": str(store.port),
        "TORCHELASTIC_USE_AGENT_STORE": "True",
    }


def _start_local(
    command: Sequence[str], size: int, environment: Mapping[str, str]
) -> list[subprocess.Popen[bytes]]:
    common = {**environment, "WORLD_SIZE": str(size), **_threads(environment, size)}
    with block_signals():
        return [
            subprocess.Popen(
                command, stdin=subprocess.DEVNULL, env={**common, "RANK": str(rank), "LOCAL_RANK": str(rank)}
            )
            for rank in range(size)
        ]


def _start_by_srun(
    command: Sequence[str], size: int, environment: Mapping[str, str]
) -> list[subprocess.Popen[bytes]]:
    """Start one srun for all tasks of the job; --cpus-per-task is not inherited from the job."""
    cores = environment.get("SLURM_CPUS_PER_TASK")
    # SBATCH_EXPORT=NONE would apply to srun too, and hide the rendezvous address from the processes
    options = [
        "--export=ALL",
        f"--ntasks={size}",
        "--kill-on-bad-exit=1",
        *([f"--cpus-per-task={cores}"] if cores else []),
    ]
    per_node = size // count(environment, "SLURM_JOB_NUM_NODES", 1)
    environment = {**environment, **_threads(environment, per_node)}
    return [subprocess.Popen(["srun", *options, *command], stdin=subprocess.DEVNULL, env=environment)]


def _threads(environment: Mapping[str, str], processes: int) -> dict[str, str]:
    """Thread variables that divide the task's cores among its processes on a machine."""
    share = max(1, count(environment, "OMP_NUM_THREADS", 1) // max(1, processes))
    return dict.fromkeys(THREAD_VARIABLES, str(share))


def _wait(
    processes: Sequence[subprocess.Popen[bytes]],
    spec: WorkerSpec,
    log: Callable[[str], None],
    should_stop: Callable[[], bool],
) -> None:
    """Wait until all have ended or one has failed; meanwhile log progress and forward a request to stop."""
    logged = time.monotonic()
    while any(process.poll() is None for process in processes):
        time.sleep(0.1)
        if should_stop():
            spec.stop.touch()
        if time.monotonic() - logged > progress.LINE_EVERY:
            logged = time.monotonic()
            if reading := progress.read(spec.folder):
                log(reading.line())
        if any(process.poll() not in (None, 0) for process in processes):
            time.sleep(_GRACE_SECONDS)  # others may write their failures
            return


def _raise_on_failure(
    processes: Sequence[subprocess.Popen[bytes]], spec: WorkerSpec, size: int, should_stop: Callable[[], bool]
) -> None:
    """Return if all succeeded. Raises Interrupted, TiebreakError or ProcessDied, with the first cause."""
    codes = [process.poll() for process in processes]
    if all(code == 0 for code in codes):
        if not spec.metrics.is_file():
            raise Interrupted
        return
    failures = {
        rank: Failure.model_validate_json(spec.failure(rank).read_bytes())
        for rank in range(size)
        if spec.failure(rank).is_file()
    }
    own = {rank: failure for rank, failure in failures.items() if not failure.of_a_peer}
    if own:
        rank = min(own, key=lambda rank: own[rank].when)
        raise TiebreakError(f"{own[rank].text} (process {rank} of {size}; the others were ended)")
    if should_stop():  # srun's processes get the signal too, and die of it while they import
        raise Interrupted
    disks = "".join(f"; {text}" for text in full_disks([spec.folder]))
    raise ProcessDied(_death_text(codes, failures, size) + disks)


def _death_text(codes: Sequence[int | None], failures: Mapping[int, Failure], size: int) -> str:
    """The error text without a failure of its own: the dead process, or the first that lost a connection."""
    by_srun = len(codes) != size
    silent = [rank for rank in range(size) if rank not in failures and (by_srun or codes[rank] is not None)]
    met = min(failures.items(), key=lambda item: item[1].when, default=None)
    if met and not silent:
        rank, failure = met
        return f"{failure.text} (process {rank} of {size}; the others were ended)"
    who = " or ".join(map(str, silent)) or "0"
    how = "died without a word" if by_srun or not silent else _exit_text(codes[silent[0]])
    reason = f"; process {met[0]} says: {met[1].text}" if met and by_srun else ""
    return f"process {who} of {size} {how} (often: out of memory); the others were ended{reason}"


def _exit_text(code: int | None) -> str:
    return f"was killed by {signal.Signals(-code).name}" if code and code < 0 else f"ended with code {code}"
