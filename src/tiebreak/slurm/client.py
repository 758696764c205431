"""Slurm client: squeue, sacct, sbatch, scontrol and scancel. Secrets in the environment are not passed on."""

import getpass
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from tiebreak.errors import TiebreakError
from tiebreak.output import inside, new_folder, no_link
from tiebreak.recipe.environment import count

_SECRET = re.compile(r"TOKEN|SECRET|PASSWORD|API_?KEY", re.IGNORECASE)
_GPUS = re.compile(r"gres/gpu=(\d+)")
_LIMIT = re.compile("MaxSubmitJob|job submit limit")
_TIMEOUT = 60.0
_FIELDS = "%i|%j|%T|%r|%V|%Z\t%N\t%M\t%o"
_LINE_PER_ARRAY_TASK = ("-r",)  # one line for each task of an array


class LimitReached(TiebreakError):
    """The user may have no more jobs in the queue for now."""


@dataclass(frozen=True)
class QueuedJob:
    """A job or array task known to Slurm. `id` is 17 or, of an array, 17_3.

    folder: where it works. node and elapsed: of a running one, elapsed as Slurm writes it. command: its script and arguments as they were given, empty for a script from standard input.
    """

    id: str
    name: str
    state: str
    reason: str
    submitted: str
    folder: str
    node: str = ""
    elapsed: str = ""
    command: str = ""

    @property
    def job(self) -> int:
        return job_number(self.id)

    @property
    def submit_time(self) -> float:
        """Seconds since the epoch."""
        return datetime.fromisoformat(self.submitted).timestamp()


def job_number(job: str) -> int:
    """The number of a job, of an array task such as 17_3, or of a part of a heterogeneous job such as 17+1."""
    return int(re.split(r"\D", job, maxsplit=1)[0])


def submit(
    script: str,
    options: Sequence[str] = (),
    variables: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> str:
    """Submit a batch script with sbatch, and SBATCH_ variables, which override the script's directives.

    folder: where the job works, by default this process's. Returns the job's id. Raises TiebreakError with sbatch's message,
    LimitReached for a limit on the number of jobs.
    """
    try:
        output = _run_command(["sbatch", "--parsable", *options], script, variables, folder)
    except TiebreakError as error:
        if _LIMIT.search(str(error)):
            raise LimitReached(str(error)) from None
        raise
    found = re.search(r"^(\d+)(;.*)?$", output, re.MULTILINE)
    if found is None:
        raise TiebreakError(f"sbatch was to name the job's id, and said {output.strip()!r}")
    return found[1]


def queued() -> list[QueuedJob]:
    """This user's pending and running jobs. Raises TiebreakError if Slurm does not answer."""
    command = ["squeue", "-h", *_LINE_PER_ARRAY_TASK, "-u", getpass.getuser(), "-o", _FIELDS]
    lines = _run_command(command).splitlines()
    return [_queued_job(line) for line in lines if line.count("|") >= 5]


def _queued_job(line: str) -> QueuedJob:
    job, name, state, reason, submitted, places = line.split("|", 5)
    folder, node, elapsed, command = (*places.split("\t", 3), "", "", "")[:4]
    command = "" if command == "(null)" else command
    return QueuedJob(job, name, state, reason, submitted, folder, node, elapsed, command)


def restarts() -> dict[str, int]:
    """How often each of this user's queued jobs was requeued, by anyone."""
    command = [
        "squeue",
        "-h",
        *_LINE_PER_ARRAY_TASK,
        "-u",
        getpass.getuser(),
        "-O",
        "JobArrayID:60,RestartCnt:12",
    ]
    rows = (line.split() for line in _run_command(command).splitlines())
    return {row[0]: int(row[1]) for row in rows if len(row) == 2 and row[1].isdigit()}


def usage(jobs: Iterable[str]) -> tuple[float, float] | None:
    """Seconds of all turns of some jobs, and those times their GPUs; None on a cluster without accounts."""
    wanted = sorted(set(jobs))
    if not wanted:
        return None
    command = ["sacct", "-n", "-X", "-P", "-D", "-j", ",".join(wanted), "-o", "ElapsedRaw,AllocTRES"]
    try:
        rows = [line.split("|", 1) for line in _run_command(command).splitlines() if "|" in line]
    except TiebreakError:
        return None
    taken = [(float(seconds), _GPUS.search(resources)) for seconds, resources in rows if seconds.isdigit()]
    gpu_seconds = sum(seconds * int(gpus[1]) for seconds, gpus in taken if gpus)
    return (sum(seconds for seconds, _ in taken), gpu_seconds) if taken else None


@dataclass(frozen=True)
class Ended:
    """The last known state of a job, such as FAILED, and the signal that ended it, 0 if none did."""

    state: str
    signal: int = 0


def final_states(jobs: Iterable[str]) -> dict[str, Ended]:
    """The last known states of jobs and array tasks, such as 17_3.

    sacct is late and the controller forgets soon, so both are queried.
    """
    wanted = set(jobs)
    if not wanted:
        return {}
    now = _remembered()
    command = ["sacct", "-n", "-X", "-P", "-j", ",".join(sorted(wanted)), "-o", "JobID,State,ExitCode"]
    try:
        lines = _run_command(command).splitlines()
    except TiebreakError:  # a cluster without accounts
        lines = []
    rows = ((*line.split("|"), "")[:3] for line in lines if "|" in line)
    accounts = {job: Ended(state.split()[0], _signal(exit_code)) for job, state, exit_code in rows}
    return {job: ended for job, ended in (accounts | now).items() if job in wanted}


def _remembered() -> dict[str, Ended]:
    """The states of all jobs of this user that the controller still knows: minutes after their end by default."""
    fields = "JobArrayID:60,State:24,exit_code:12"
    command = ["squeue", "-h", *_LINE_PER_ARRAY_TASK, "-t", "all", "-u", getpass.getuser(), "-O", fields]
    rows = (line.split() for line in _run_command(command).splitlines())
    return {  # the exit code as wait has it, with the signal in its lowest bits
        row[0]: Ended(row[1], int(row[2]) & 0x7F) for row in rows if len(row) == 3 and row[2].isdigit()
    }


def _signal(exit_code: str) -> int:
    """The signal in an exit code of sacct, such as 9 in 0:9."""
    number = exit_code.partition(":")[2]
    return int(number) if number.isdigit() else 0


def cancel(jobs: Sequence[str]) -> None:
    """Cancel jobs, pending or running."""
    if jobs:
        _run_command(["scancel", *jobs])


def this_job() -> str | None:
    """The job or array task that this process belongs to; None outside Slurm."""
    if array := count(os.environ, "SLURM_ARRAY_JOB_ID", 0):
        return f"{array}_{count(os.environ, 'SLURM_ARRAY_TASK_ID', 0)}"
    return str(count(os.environ, "SLURM_JOB_ID", 0) or "") or None


def is_preempted(job: str) -> bool:
    """True if a running job is being preempted; False if it was cancelled, or Slurm does not answer.

    Slurm does not requeue a job that exits before it is killed.
    """
    try:
        words = _run_command(["squeue", "-h", "-j", job, "-O", "State,PreemptTime"]).split()
    except TiebreakError:
        return False
    return len(words) == 2 and words[0] == "RUNNING" and words[1] != "N/A"


def requeue(job: str, after: Sequence[int] = ()) -> None:
    """Requeue a job under the same id; its dependants continue to wait. It starts once the jobs `after` have ended.

    Retries for a minute, since the controller may be restarting. Raises TiebreakError if it does not answer.
    """
    # Slurm ends a job that it requeues, often before scontrol inside it has its answer
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)  # inherited by the commands started here
    try:
        _patiently(["scontrol", "requeue", job])
        if after:  # possible only once the job is pending; without it, it starts sooner and looks again
            dependency = "afterany:" + ":".join(map(str, after))
            with suppress(TiebreakError):
                _run_command(["scontrol", "update", f"JobId={job}", f"Dependency={dependency}"])
    finally:
        signal.signal(signal.SIGTERM, before)


def _patiently(command: Sequence[str]) -> None:
    """Run a Slurm command, again and again for a minute if it fails."""
    deadline = time.monotonic() + _TIMEOUT
    while True:
        try:
            _run_command(command)
        except TiebreakError:
            if time.monotonic() > deadline:
                raise
            time.sleep(5)
        else:
            return


def requeue_after_timeout(run_dir: Path, limit: int) -> None:
    """Requeue this process's job because it ran out of time, at most `limit` times.

    Raises TiebreakError beyond the limit, and outside Slurm.
    """
    job = this_job()
    if job is None:
        raise TiebreakError("this process is no job of Slurm, so there is nothing to requeue")
    count = inside(run_dir, "logs", f"requeued-{job}")
    new_folder(count.parent)
    times = len(count.read_text().splitlines()) if count.is_file() else 0
    if times >= limit:
        raise TiebreakError(
            f"job {job} ran out of time {times + 1} times and is not done; what it has is kept. Give it more "
            "time (slurm.minutes, sbatch --time) or more turns (slurm.requeues), and run again"
        )
    with open(count, "a", encoding="utf-8", opener=no_link) as file:
        file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')}\n")
    requeue(job)


@dataclass(frozen=True)
class Partition:
    """A partition: its time limit in Slurm's format (None for none), and the largest number of GPUs of its nodes."""

    limit: str | None
    gpus: int
    is_default: bool
    is_up: bool


def partitions() -> dict[str, Partition]:
    """The partitions visible to this user, by name. Raises TiebreakError if Slurm does not answer."""
    found: dict[str, Partition] = {}
    for line in _run_command(["sinfo", "-h", "-o", "%R|%P|%a|%l|%G"]).splitlines():
        name, marked, available, limit, gres = line.split("|", 4)
        before = found.get(name)
        found[name] = Partition(
            limit=None if limit in ("infinite", "n/a") else limit,
            gpus=max(_gpus(gres), before.gpus if before else 0),
            is_default=marked.endswith("*"),
            is_up=available == "up",
        )
    return found


def _gpus(gres: str) -> int:
    """GPUs of a node, from its resources such as `gpu:v100:4(S:0-1),gpu:t4:1`."""
    items = (item.split(":") for item in re.sub(r"\([^)]*\)", "", gres).split(","))
    return sum(int(item[-1]) if item[-1].isdigit() else 1 for item in items if item[0] == "gpu")


def max_array_size() -> int | None:
    """The cluster's MaxArraySize; None if unknown."""
    try:
        found = re.search(
            r"^MaxArraySize\s*=\s*(\d+)", _run_command(["scontrol", "show", "config"]), re.MULTILINE
        )
    except TiebreakError:
        return None
    return int(found[1]) if found else None


def associations(user: str) -> dict[str, set[str]]:
    """The accounts of a user, each with its QOS; empty if the cluster has none, or they are unknown."""
    command = ["sacctmgr", "-n", "-P", "show", "assoc", f"user={user}", "format=Account,QOS"]
    try:
        lines = _run_command(command).splitlines()
    except TiebreakError:
        return {}
    found: dict[str, set[str]] = {}
    for account, _, qos in (line.partition("|") for line in lines):
        found.setdefault(account, set()).update(name for name in qos.split(",") if name)
    return found


def without_secrets(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment without secrets such as tokens."""
    return {name: value for name, value in environment.items() if not _SECRET.search(name)}


def _run_command(
    command: Sequence[str],
    text: str | None = None,
    variables: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> str:
    """Run a Slurm command and return its output. The only SBATCH_ variables it sees are `variables`."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("SBATCH_")}
    environment = inherited | dict(variables or {}) | {"SLURM_TIME_FORMAT": "standard"}
    try:
        done = subprocess.run(
            command,
            input=text,
            capture_output=True,
            text=True,
            errors="surrogateescape",  # as Python has the names of files that are not UTF-8
            check=False,
            timeout=_TIMEOUT,
            env=without_secrets(environment),
            cwd=folder,
        )
    except FileNotFoundError:
        raise TiebreakError(f"there is no {command[0]} here: run this where Slurm's commands are") from None
    except subprocess.TimeoutExpired:
        raise TiebreakError(f"{command[0]} did not answer in {_TIMEOUT:.0f} s") from None
    if done.returncode:
        raise TiebreakError(f"{command[0]} failed: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout
