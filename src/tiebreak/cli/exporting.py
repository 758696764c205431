"""Commands that export a judge, or a run, into the form of another place: export kaggle, snakemake, skypilot."""

from pathlib import Path
from typing import Annotated

import typer

from tiebreak import terminal
from tiebreak.cli.options import RecipeFile, Sets, example
from tiebreak.cli.runs import workspace

app = typer.Typer(
    help="Export a judge into the form of another place.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.command(epilog=example("tiebreak export kaggle demo -o bundle --owner ada --wheels wheels"))
def kaggle(
    where: Annotated[
        Path, typer.Argument(metavar="RUN_OR_MODEL", help="A recipe that ran, or a model folder.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="A new folder.")],
    owner: Annotated[str, typer.Option(help="Your name on Kaggle.")],
    name: Annotated[
        str, typer.Option(help="Of the data set: 6 to 50 small letters, digits, dashes.")
    ] = "tiebreak-judge",
    competition: Annotated[str, typer.Option(help="As in its address.")] = "lmsys-chatbot-arena",
    test: Annotated[str, typer.Option(help="The competition's file of pairs.")] = "test.csv",
    hours: Annotated[float, typer.Option(min=0.1, max=24, help="That a notebook may take.")] = 9.0,
    wheels: Annotated[
        Path | None, typer.Option(help="A folder of wheels, where pip cannot download them.")
    ] = None,
    python: Annotated[str, typer.Option(help="Of Kaggle's image, for the wheels.")] = "3.12",
    image: Annotated[
        Path | None,
        typer.Option(help="What Kaggle's image has, by `pip freeze` there; the same is left out."),
    ] = None,
    set_: Sets = None,
) -> None:
    """Write a data set with the judge and wheels, and a notebook that predicts with it on Kaggle, without internet.

    The image's own torch is used. Tokens a second are estimates: they were measured on no card of Kaggle's.
    """
    from tiebreak.commands import outputs
    from tiebreak.commands.export.kaggle import Bundle, export

    outputs.refuse_unused(set_, [where])
    bundle = Bundle(owner, name, competition, test, hours)
    for found in export(where, output, bundle, wheels, python, image, set_ or ()):
        terminal.note(
            f"{found.machine}: about {found.tokens_per_s:,} tokens/s, 10,000 pairs of the longest rows in {found.hours:.1f} hours "
            "(an estimate)"
        )
    terminal.result(
        f"kaggle datasets create -p {output / 'dataset'}", f"kaggle kernels push -p {output / 'kernel'}"
    )


@app.command(epilog=example("tiebreak export snakemake judge -o Snakefile"))
def snakemake(
    recipe: RecipeFile = Path(),
    output: Annotated[Path, typer.Option("--output", "-o", help="The workflow's file.")] = Path("Snakefile"),
    set_: Sets = None,
) -> None:
    """Write a run's tasks as a Snakemake workflow, which has executors for other schedulers and clouds."""
    from tiebreak.commands.export.snakemake import export

    terminal.result(export(workspace(recipe, set_), output))


@app.command(epilog=example("tiebreak export skypilot judge --card H100 --spot"))
def skypilot(
    recipe: RecipeFile = Path(),
    card: Annotated[str, typer.Option(help="The machine's, as SkyPilot names it.")] = "H100",
    spot: Annotated[bool, typer.Option("--spot", help="A machine that may be taken away, for less.")] = False,
    bucket: Annotated[
        str | None, typer.Option(help="Where the run outlives the machine, such as s3://mine.")
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="The task's file.")] = Path("sky.yaml"),
    set_: Sets = None,
) -> None:
    """Write a run as a SkyPilot task: one machine of a cloud, which runs the whole recipe."""
    from tiebreak.commands.export.skypilot import export

    terminal.result(export(workspace(recipe, set_), output, card, spot, bucket))
