"""Folder of the nine scripts: written from the package, and submitted as one chain of jobs."""

import shutil
import sys
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from tempfile import TemporaryDirectory

from tiebreak.errors import TiebreakError
from tiebreak.output import inside, new_folder, write_atomically
from tiebreak.recipe.basics import RECIPE
from tiebreak.slurm import client
from tiebreak.slurm.numbered_scripts import SCRIPTS, prepare_in, scratch_base
from tiebreak.slurm.profile import environment_of, sbatch_variables

PROFILE = "profile.sh"
RUN_STEP = "run_step.sh"
ORDER = (2, 1, *range(3, 10))
"""The steps in the order of their inputs: step 2 drops preference pairs whose prompt is among the votes."""
_IN_JOBS = "  :\n"


def write(folder: Path) -> list[Path]:
    """Write the scripts and a profile that finds this installation in jobs; files that are there stay. Returns the new ones.

    Raises TiebreakError for a link to what is not there, which would be made wherever it leads.
    """
    new_folder(folder)
    made = []
    for source in sorted(Path(str(files("tiebreak.slurm") / "scripts")).glob("*.sh")):
        path = folder / source.name
        if path.exists():
            continue
        inside(folder, path.name)
        if path.name == PROFILE:
            own = f'  PATH="{Path(sys.executable).parent}:$PATH"\n'
            write_atomically(path, source.read_text("utf-8").replace(_IN_JOBS, own))
        else:
            shutil.copy(source, path)
        made.append(path)
    return made


def submit(folder: Path, sbatch: Sequence[str] = ()) -> dict[str, str]:
    """Submit the nine steps with the variables of the shell and the profile, each after the one before it has succeeded.

    Returns the jobs by their scripts' names. Raises TiebreakError, with nothing left in the queue, for an invalid variable of
    any step, a missing script, and where Slurm takes one of the jobs not.
    """
    folder = folder.resolve()
    environment = environment_of(_require(folder / PROFILE))
    variables = sbatch_variables(environment)
    texts = {SCRIPTS[step]: _require(folder / f"{SCRIPTS[step]}.sh").read_text("utf-8") for step in ORDER}
    recipe = folder / Path(environment.get("RECIPE", "") or RECIPE).expanduser()
    base = scratch_base(environment, folder)
    _require_valid(base, environment, recipe)
    variables |= {"SCRATCH_BASE": str(base)}
    jobs: dict[str, str] = {}
    try:
        for name, text in texts.items():
            after = [f"--dependency=afterok:{job}" for job in list(jobs.values())[-1:]]
            options = (*after, "--kill-on-invalid-dep=yes", *sbatch)
            jobs[name] = client.submit(text, options, variables, folder)
    except TiebreakError:
        client.cancel(list(jobs.values()))
        raise
    return jobs


def _require(file: Path) -> Path:
    if not file.is_file():
        raise TiebreakError(
            f"no {file.name} in {file.parent}; write a folder of scripts with: "
            "tiebreak slurm init FOLDER --preset sc4000 --votes FILE"
        )
    return file


def _require_valid(base: Path, environment: Mapping[str, str], recipe: Path) -> None:
    """Go through all steps as their jobs will, in a folder that is thrown away."""
    with TemporaryDirectory() as trial:
        if (base / RECIPE).is_file():
            shutil.copy(base / RECIPE, trial)
        for step in ORDER:
            prepare_in(Path(trial), step, environment, recipe)
