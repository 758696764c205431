"""One task by several processes: started together, stopped together, one clear message when one of them fails.

Here they are children of this process; in a job that Slurm gave several tasks, srun starts one a task. Those
that are to stop find a file, since signals reach them in any order; when one fails the others are killed.
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

from tiebreak.errors import Interrupted, TiebreakError
from tiebreak.execute import progress
from tiebreak.execute.artifacts import SCRATCH, write_atomically
from tiebreak.execute.signals import held_back
from tiebreak.execute.workspace import Workspace
from tiebreak.pipeline import Task

STEPS = {"post_pretrain", "teach", "score", "distill", "predict"}
"""Steps whose work can be shared: they train or score."""

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS")
"""What tells numerical libraries how many cores a process has; torch believes MKL's more than OpenMP's."""

_FOLDER = "ranks"
_GRACE = 1.0


class Order(BaseModel):
    """What each process is told. `parent` is the process to die with, 0 where srun is the parent."""

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
    def desk(self) -> Path:
        """Where the processes and their parent leave word for each other."""
        return self.folder / SCRATCH / _FOLDER

    @property
    def stop(self) -> Path:
        return self.desk / "stop"

    @property
    def metrics(self) -> Path:
        return self.desk / "metrics.json"

    def failure(self, rank: int) -> Path:
        return self.desk / f"failure-{rank}.json"


class Failure(BaseModel):
    """Why a process ended; `of_a_peer` if it only lost the connection to another."""

    text: str
    of_a_peer: bool
    when: float


def wanted(work: Workspace, task: Task) -> bool:
    """Is the task to be shared by several processes?"""
    return task.step_name in STEPS and work.recipe.compute.processes > 1


def run(
    work: Workspace,
    task: Task,
    inputs: Mapping[str, tuple[Path, ...]],
    device: str,
    say: Callable[[str], None],
    should_stop: Callable[[], bool],
) -> dict[str, Any]:
    """Have compute.processes processes do a task, and return its metrics.

    Raises Interrupted once they have stopped because `should_stop` says so, TiebreakError if one fails.
    """
    size, in_job = work.recipe.compute.processes, _tasks_of_job() == work.recipe.compute.processes
    order = Order(
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
    shutil.rmtree(order.desk, ignore_errors=True)
    order.desk.mkdir(parents=True)
    path = order.desk / "order.json"
    write_atomically(path, order.model_dump_json())
    store, environment = _meeting_place(in_job)
    command = [sys.executable, "-m", "tiebreak.execute.rank", str(path)]
    started = _by_srun(command, size, environment) if in_job else _here(command, size, environment)
    try:
        _wait(started, order, say, should_stop)
        _judge(started, order, size, should_stop)
        metrics: dict[str, Any] = json.loads(order.metrics.read_text(encoding="utf-8"))
        return metrics
    finally:
        for process in started:
            process.kill()
            process.wait()
        del store
        shutil.rmtree(order.desk, ignore_errors=True)


def _tasks_of_job() -> int:
    return int(os.environ.get("SLURM_NTASKS", "1")) if "SLURM_JOB_ID" in os.environ else 1


def _first_card(device: str, size: int) -> int:
    """The processes of a worker take the cards after those of the workers before it."""
    if device != "cuda":
        return 0
    import torch

    return torch.cuda.current_device() * size


def _meeting_place(in_job: bool) -> tuple[Any, dict[str, str]]:
    """A store at which the processes meet, held by this one, and the environment that names it."""
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


def _here(command: Sequence[str], size: int, environment: Mapping[str, str]) -> list[subprocess.Popen[bytes]]:
    common = {**environment, "WORLD_SIZE": str(size), **_threads(environment, size)}
    with held_back():
        return [
            subprocess.Popen(
                command, stdin=subprocess.DEVNULL, env={**common, "RANK": str(rank), "LOCAL_RANK": str(rank)}
            )
            for rank in range(size)
        ]


def _by_srun(
    command: Sequence[str], size: int, environment: Mapping[str, str]
) -> list[subprocess.Popen[bytes]]:
    """One srun for all tasks of the job; cores a task are not handed down by themselves."""
    cores = environment.get("SLURM_CPUS_PER_TASK")
    # SBATCH_EXPORT=NONE would hold for srun too, and keep the meeting place from the processes
    options = [
        "--export=ALL",
        f"--ntasks={size}",
        "--kill-on-bad-exit=1",
        *([f"--cpus-per-task={cores}"] if cores else []),
    ]
    on_a_node = size // int(environment.get("SLURM_JOB_NUM_NODES", "1"))
    environment = {**environment, **_threads(environment, on_a_node)}
    return [subprocess.Popen(["srun", *options, *command], stdin=subprocess.DEVNULL, env=environment)]


def _threads(environment: Mapping[str, str], processes: int) -> dict[str, str]:
    """The cores of this task, shared by the processes of a machine."""
    share = max(1, int(environment.get("OMP_NUM_THREADS", "1")) // max(1, processes))
    return dict.fromkeys(THREADS, str(share))


def _wait(
    started: Sequence[subprocess.Popen[bytes]],
    order: Order,
    say: Callable[[str], None],
    should_stop: Callable[[], bool],
) -> None:
    """Until all have ended, or one has failed; meanwhile hand on progress, and the wish to stop."""
    told = time.monotonic()
    while any(process.poll() is None for process in started):
        time.sleep(0.1)
        if should_stop():
            order.stop.touch()
        if time.monotonic() - told > progress.LINE_EVERY:
            told = time.monotonic()
            if reading := progress.read(order.folder):
                say(reading.line())
        if any(process.poll() not in (None, 0) for process in started):
            time.sleep(_GRACE)  # what others have to say
            return


def _judge(
    started: Sequence[subprocess.Popen[bytes]], order: Order, size: int, should_stop: Callable[[], bool]
) -> None:
    """Say nothing if all went well. Raises Interrupted or TiebreakError, with the reason behind the others."""
    codes = [process.poll() for process in started]
    if all(code == 0 for code in codes):
        if not order.metrics.is_file():
            raise Interrupted
        return
    failures = {
        rank: Failure.model_validate_json(order.failure(rank).read_bytes())
        for rank in range(size)
        if order.failure(rank).is_file()
    }
    own = {rank: failure for rank, failure in failures.items() if not failure.of_a_peer}
    if own:
        rank = min(own, key=lambda rank: own[rank].when)
        raise TiebreakError(f"{own[rank].text} (process {rank} of {size}; the others were ended)")
    if should_stop():  # srun's processes hear a signal too, and die of it while they import
        raise Interrupted
    raise TiebreakError(_of_the_dead(codes, failures, size))


def _of_the_dead(codes: Sequence[int | None], failures: Mapping[int, Failure], size: int) -> str:
    """Who died, where nobody says more than that a connection failed; who met that first, where nobody died."""
    by_srun = len(codes) != size
    silent = [rank for rank in range(size) if rank not in failures and (by_srun or codes[rank] is not None)]
    met = min(failures.items(), key=lambda item: item[1].when, default=None)
    if met and not silent:
        rank, failure = met
        return f"{failure.text} (process {rank} of {size}; the others were ended)"
    who = " or ".join(map(str, silent)) or "0"
    how = "died without a word" if by_srun or not silent else _killed_by(codes[silent[0]])
    said = f"; process {met[0]} says: {met[1].text}" if met and by_srun else ""
    return f"process {who} of {size} {how} (often: out of memory); the others were ended{said}"


def _killed_by(code: int | None) -> str:
    return f"was killed by {signal.Signals(-code).name}" if code and code < 0 else f"ended with code {code}"
