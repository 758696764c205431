"""Commands on the nine scripts for Slurm: slurm init, slurm submit."""

from pathlib import Path
from typing import Annotated

import typer

from tiebreak import terminal
from tiebreak.cli.options import AsJson, RecipeFile, Sbatch, example
from tiebreak.commands.table import show
from tiebreak.recipe.basics import presets

app = typer.Typer(
    help="The nine scripts for Slurm: a folder with them, and all nine submitted at once.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.command(epilog=example("tiebreak slurm init judge --votes train.csv --test test.csv"))
def init(
    folder: Annotated[Path, typer.Argument(help="A new folder, which compute nodes see too.")],
    preset: Annotated[
        str,
        typer.Option("--preset", "--profile", help=f"The recipe's, one of {', '.join(presets())}."),
    ] = "sc4000",
    votes: Annotated[list[Path] | None, typer.Option(help="A file of votes; may be given again.")] = None,
    preferences: Annotated[list[Path] | None, typer.Option(help="Preference pairs for step 1.")] = None,
    extra: Annotated[list[Path] | None, typer.Option(help="More votes, for the training sides only.")] = None,
    test: Annotated[list[Path] | None, typer.Option(help="Pairs to predict for a submission.")] = None,
) -> None:
    """Write the nine scripts, their profile and a recipe."""
    from tiebreak.commands.init import init_recipe
    from tiebreak.slurm import script_folder

    recipe = init_recipe(folder, preset, votes or (), preferences or (), extra=extra or (), test=test or ())
    terminal.result(recipe, *script_folder.write(folder))
    terminal.note(f"adapt {folder / script_folder.PROFILE}, then: tiebreak slurm submit {folder}")


@app.command(epilog=example("FOLDS=0 STUDENT_EPOCHS=2 tiebreak slurm submit judge"))
def submit(
    folder: Annotated[Path, typer.Argument(help="The folder of the scripts.")] = Path(),
    sbatch: Sbatch = None,
    as_json: AsJson = False,
) -> None:
    """Submit all nine steps, each to start after the one before it, with the variables of the shell."""
    from tiebreak.slurm import requeue, script_folder

    terminal.note(*requeue.died_early(folder))
    jobs = script_folder.submit(folder, sbatch or ())
    show([{"job": job, "script": name} for name, job in jobs.items()], as_json)


@app.command(hidden=True)
def rest(recipe: RecipeFile) -> None:
    """Submit what a limit of the site left out; a job of `tiebreak run --on slurm` calls this."""
    from tiebreak.engine.workspace import Workspace
    from tiebreak.slurm.jobs import SlurmJobs

    made = SlurmJobs(Workspace(recipe)).submit_left()
    show(
        [{"job": entry["job"], "step": entry["step"], "tasks": len(entry["tasks"])} for entry in made], False
    )
