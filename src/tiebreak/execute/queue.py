"""Talking to Slurm through its own commands. Tokens and passwords of the environment stay here."""

import getpass
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from tiebreak.errors import TiebreakError

_SECRET = re.compile(r"TOKEN|SECRET|PASSWORD|API_?KEY", re.IGNORECASE)
_TIMEOUT = 60.0
_FIELDS = "%i|%j|%T|%r|%V|%Z"
_SEPARATE = ("-r",)  # one line for each task of an array


@dataclass(frozen=True)
class Queued:
    """A job or array task that Slurm still has. `id` is 17 or, of an array, 17_3."""

    id: str
    name: str
    state: str
    reason: str
    submitted: str
    folder: str

    @property
    def job(self) -> int:
        return number(self.id)

    @property
    def submit_time(self) -> float:
        """Seconds since the epoch."""
        return datetime.fromisoformat(self.submitted).timestamp()


def number(job: str) -> int:
    """The number of a job, of an array task such as 17_3, or of a part of a heterogeneous job such as 17+1."""
    return int(re.split(r"\D", job, maxsplit=1)[0])


def submit(script: str, options: Sequence[str] = (), variables: Mapping[str, str] | None = None) -> str:
    """Hand a batch script to sbatch, and SBATCH_ variables, which win over the script's directives.

    Returns the job's id. Raises TiebreakError with sbatch's own words.
    """
    said = _slurm(["sbatch", "--parsable", *options], script, variables)
    found = re.search(r"^(\d+)(;.*)?$", said, re.MULTILINE)
    if found is None:
        raise TiebreakError(f"sbatch was to name the job's id, and said {said.strip()!r}")
    return found[1]


def queued(*, also_ended: bool = False) -> list[Queued]:
    """This user's jobs that are pending or running; or all that the controller still remembers.

    Raises TiebreakError if Slurm does not answer.
    """
    states = ["-t", "all"] if also_ended else []
    command = ["squeue", "-h", *_SEPARATE, *states, "-u", getpass.getuser(), "-o", _FIELDS]
    lines = _slurm(command).splitlines()
    return [Queued(*line.split("|", 5)) for line in lines if line.count("|") >= 5]


def ended(jobs: Iterable[str]) -> dict[str, str]:
    """The last known states of jobs and array tasks, such as {"17_3": "FAILED"}.

    Accounts come late, and the controller forgets soon, so both are asked.
    """
    wanted = set(jobs)
    if not wanted:
        return {}
    states = {job.id: job.state for job in queued(also_ended=True)}
    try:
        lines = _slurm(["sacct", "-n", "-X", "-P", "-j", ",".join(sorted(wanted)), "-o", "JobID,State"])
    except TiebreakError:  # a cluster without accounts
        lines = ""
    rows = (line.split("|", 1) for line in lines.splitlines() if "|" in line)
    accounts = {job: state.split()[0] for job, state in rows}
    return {job: state for job, state in (accounts | states).items() if job in wanted}


def cancel(jobs: Sequence[str]) -> None:
    """End jobs, pending or running."""
    if jobs:
        _slurm(["scancel", *jobs])


def this_job() -> str | None:
    """The job or array task that this process belongs to; None outside Slurm."""
    if array := os.environ.get("SLURM_ARRAY_JOB_ID"):
        return f"{array}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    return os.environ.get("SLURM_JOB_ID")


def is_preempted(job: str) -> bool:
    """Does Slurm want the nodes of a running job for another? Not if it was cancelled, or Slurm is silent.

    A job that ends by itself before it is killed is not requeued by Slurm.
    """
    try:
        words = _slurm(["squeue", "-h", "-j", job, "-O", "State,PreemptTime"]).split()
    except TiebreakError:
        return False
    return len(words) == 2 and words[0] == "RUNNING" and words[1] != "N/A"


def requeue(job: str) -> None:
    """Put a job back into the queue, under the same id; its dependants go on waiting.

    Tries for a minute, since the controller may be restarting. Raises TiebreakError if it does not answer.
    """
    deadline = time.monotonic() + _TIMEOUT
    while True:
        try:
            _requeue_once(job)
        except TiebreakError:
            if time.monotonic() > deadline:
                raise
            time.sleep(5)
        else:
            return


def _requeue_once(job: str) -> None:
    # Slurm ends a job that it requeues, often before the scontrol within it has heard the answer
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)  # what is started now inherits it
    try:
        _slurm(["scontrol", "requeue", job])
    finally:
        signal.signal(signal.SIGTERM, before)


def requeue_this(run_dir: Path, limit: int) -> None:
    """Requeue this process's job because its time is over, `limit` times at most.

    Raises TiebreakError once that was often enough, and outside Slurm.
    """
    job = this_job()
    if job is None:
        raise TiebreakError("this process is no job of Slurm, so there is nothing to requeue")
    count = run_dir / "logs" / f"requeued-{job}"
    count.parent.mkdir(parents=True, exist_ok=True)
    times = len(count.read_text().splitlines()) if count.exists() else 0
    if times >= limit:
        raise TiebreakError(
            f"job {job} ran out of time {times + 1} times and is not done; what it has is kept. Give it more "
            "time (slurm.minutes, sbatch --time) or more turns (slurm.requeues), and run again"
        )
    with count.open("a", encoding="utf-8") as file:
        file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')}\n")
    requeue(job)


def earlier_jobs(names: Iterable[str], folder: Path) -> list[Queued]:
    """Jobs of these names that were submitted from `folder` before this one and have not ended."""
    mine = int((this_job() or "0").partition("_")[0])
    return [
        job for job in queued() if job.name in set(names) and job.job < mine and Path(job.folder) == folder
    ]


@dataclass(frozen=True)
class Partition:
    """A partition: its time limit as Slurm writes it (None for none), and the most GPUs that a node of it has."""

    limit: str | None
    gpus: int
    is_default: bool
    is_up: bool


def partitions() -> dict[str, Partition]:
    """The partitions that this user may see, by name. Raises TiebreakError if Slurm does not answer."""
    found: dict[str, Partition] = {}
    for line in _slurm(["sinfo", "-h", "-o", "%R|%P|%a|%l|%G"]).splitlines():
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


def largest_array() -> int | None:
    """The most tasks that an array may have; None where the cluster does not say."""
    try:
        found = re.search(r"^MaxArraySize\s*=\s*(\d+)", _slurm(["scontrol", "show", "config"]), re.MULTILINE)
    except TiebreakError:
        return None
    return int(found[1]) if found else None


def associations(user: str) -> dict[str, set[str]]:
    """The accounts of a user, each with its qos; empty where the cluster keeps none, or does not say."""
    command = ["sacctmgr", "-n", "-P", "show", "assoc", f"user={user}", "format=Account,QOS"]
    try:
        lines = _slurm(command).splitlines()
    except TiebreakError:
        return {}
    found: dict[str, set[str]] = {}
    for account, _, qos in (line.partition("|") for line in lines):
        found.setdefault(account, set()).update(name for name in qos.split(",") if name)
    return found


def without_secrets(environment: Mapping[str, str]) -> dict[str, str]:
    """What a job may inherit: no tokens."""
    return {name: value for name, value in environment.items() if not _SECRET.search(name)}


def _slurm(
    command: Sequence[str], text: str | None = None, variables: Mapping[str, str] | None = None
) -> str:
    """What a command of Slurm's answers. Of SBATCH_ variables it sees those that it is given, and no others."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("SBATCH_")}
    asked = own | dict(variables or {}) | {"SLURM_TIME_FORMAT": "standard"}
    try:
        done = subprocess.run(
            command,
            input=text,
            capture_output=True,
            text=True,
            check=False,
            timeout=_TIMEOUT,
            env=without_secrets(asked),
        )
    except FileNotFoundError:
        raise TiebreakError(f"there is no {command[0]} here: run this where Slurm's commands are") from None
    except subprocess.TimeoutExpired:
        raise TiebreakError(f"{command[0]} did not answer in {_TIMEOUT:.0f} s") from None
    if done.returncode:
        raise TiebreakError(f"{command[0]} failed: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout
