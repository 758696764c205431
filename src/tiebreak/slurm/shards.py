"""Jobs for the shards of a command on rows: one array, a job a shard, each requeued until its shard is done.

The SBATCH_ variables of the calling shell hold, and flags given override them, but for what makes the shards what they are.
"""

import os
import re
import shlex
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path

from tiebreak.errors import TiebreakError
from tiebreak.recipe.environment import count
from tiebreak.slurm import client
from tiebreak.slurm.jobs import tiebreak_command

MOST_REQUEUES = 100
"""How often one job goes back to the queue; it goes on where it was."""
_WARNING_SECONDS = 120
_RESTARTS = "SLURM_RESTART_COUNT"
_OWN_VARIABLES = {
    f"SBATCH_{name}"
    for name in "ARRAY_INX ERROR JOB_NAME NO_REQUEUE OPEN_MODE OUTPUT REQUEUE SIGNAL TEST_ONLY WAIT".split()
}
_OWN_FLAG = re.compile("--(array|wrap|wait|test-only|no-requeue)(=.*)?|-[aW].*", re.DOTALL)
"""What the script says itself, or what would run something else than all shards once."""


def script(arguments: Sequence[str], output: Path, shards: int, needs_gpu: bool) -> str:
    """The batch script; `arguments` are those of `tiebreak` without --shard, the command first.

    Raises TiebreakError for a folder that Slurm does not take in the path of a log.
    """
    folder = str(output.parent.resolve())
    if any(mark in folder for mark in '"\\\n'):
        raise TiebreakError(
            f"the folder {folder!r} has a double quote, a backslash or a line break, which Slurm does not take in the "
            "path of a log; name an output elsewhere"
        )
    directives = {
        "job-name": _name(arguments),
        "output": f'"{folder.replace("%", "%%")}/slurm-%x-%A_%a.log"',
        "open-mode": "append",
        "array": f"1-{shards}",
        "signal": f"B:USR1@{_WARNING_SECONDS}",
        **({"gres": "gpu:1"} if needs_gpu else {}),
    }
    name, *others = arguments
    lines = [
        "#!/bin/bash",
        "#SBATCH --requeue",
        *(f"#SBATCH --{option}={value}" for option, value in directives.items()),
        "trap '' USR1  # until tiebreak listens: Slurm's warning before the end",
        f"cd {shlex.quote(os.getcwd())} || exit",
        f'exec {shlex.join([str(tiebreak_command()), name])} --requeue --shard "$SLURM_ARRAY_TASK_ID/{shards}" '
        f"{shlex.join(others)}",
    ]
    return "\n".join(lines) + "\n"


def logs_of(arguments: Sequence[str], output: Path, job: str) -> str:
    """The logs of a submitted array, as a pattern."""
    return f"{output.parent.resolve()}/slurm-{_name(arguments)}-{job}_*.log"


def _name(arguments: Sequence[str]) -> str:
    return f"tiebreak.{arguments[0]}"


def submit(
    arguments: Sequence[str], output: Path, shards: int, needs_gpu: bool, options: Sequence[str] = ()
) -> str:
    """Submit the shards with flags for sbatch. Returns the array's id.

    Raises TiebreakError for more shards than the cluster's arrays hold, for what is no flag or one of the script's own, and
    with sbatch's message.
    """
    for option in options:
        if not option.startswith("-") or option in ("-", "--"):
            raise TiebreakError(
                f"--sbatch takes a flag of sbatch with its value, such as --time=60, not {option!r}"
            )
        if _OWN_FLAG.fullmatch(option):
            raise TiebreakError(
                f"--sbatch {option} is not to be set: --shards says what the array is, and its jobs go back to the queue "
                "until they are done; leave it out"
            )
    most = client.max_array_size()
    if most is not None and shards >= most:
        raise TiebreakError(
            f"{shards} shards are more than the cluster takes in one array: at most {most - 1}"
        )
    variables = {
        name: value
        for name, value in os.environ.items()
        if name.startswith("SBATCH_") and value and name not in _OWN_VARIABLES
    }
    return client.submit(script(arguments, output, shards, needs_gpu), options, variables)


def requeue_if_stopped(received: int | None, environment: Mapping[str, str] = os.environ) -> bool:
    """Requeue this job if the signal `received` means preemption or the end of its time; True if requeued.

    Raises TiebreakError if it came back MOST_REQUEUES times.
    """
    job = client.this_job()
    if job is None or received == signal.SIGINT:
        return False
    if received != signal.SIGUSR1 and not client.is_preempted(job):
        return False
    if count(environment, _RESTARTS, 0) >= MOST_REQUEUES:
        raise TiebreakError(
            f"job {job} was stopped {MOST_REQUEUES + 1} times and its shard is not done; what it has is kept. Give the jobs "
            "more time (--sbatch --time=HOURS:00:00), and submit the same command again"
        )
    client.requeue(job)
    return True
