"""Profile of a Slurm site: the shell file that jobs source, and the environment that it makes."""

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from tiebreak.errors import TiebreakError


def environment_of(profile: Path | None) -> dict[str, str]:
    """The environment of the calling shell after it has sourced the profile, as outside a job.

    Raises TiebreakError if there is no such file, or it fails.
    """
    environment = {name: value for name, value in os.environ.items() if name != "SLURM_JOB_ID"}
    if profile is None:
        return environment
    if not profile.is_file():
        raise TiebreakError(f"no profile at {profile}, as slurm.profile says")
    command = ["bash", "-c", 'set -a; source "$1" >&2 && env -0', "profile", str(profile)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise TiebreakError(f"the profile {profile} fails: {done.stderr.strip()[-500:]}")
    return dict(line.split("=", 1) for line in done.stdout.split("\0") if "=" in line)


def sbatch_variables(environment: Mapping[str, str]) -> dict[str, str]:
    """The SBATCH_ variables that are set. Raises TiebreakError for those that send jobs to another cluster."""
    for name in ("SBATCH_CLUSTERS", "SLURM_CLUSTERS"):
        if clusters := environment.get(name):
            raise TiebreakError(
                f"{name}={clusters}: the jobs of another cluster are out of sight here; unset it, and work on a "
                "login node of that cluster"
            )
    return {name: value for name, value in environment.items() if name.startswith("SBATCH_") and value}
