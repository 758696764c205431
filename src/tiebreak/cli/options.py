"""Options that several commands have, and what their texts mean."""

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from tiebreak.errors import TiebreakError
from tiebreak.recipe.basics import MAX_SEED

if TYPE_CHECKING:
    from tiebreak.votes.formats.mapping import ColumnMap

RecipeFile = Annotated[Path, typer.Argument(help="The recipe, or the folder that holds its recipe.yaml.")]
Sets = Annotated[list[str] | None, typer.Option("--set", help="Change a value of the recipe: a.b=c.")]
Steps = Annotated[str, typer.Option(help="Only these steps, such as teach,score (and ingest, split).")]
FoldList = Annotated[str, typer.Option("--folds", help="Only these folds, such as 0,2.")]
AsJson = Annotated[bool, typer.Option("--json", help="JSON on stdout.")]
Weights = Annotated[str | None, typer.Option(help="Weights of a blend, such as 2,1; equal if not given.")]
Samples = Annotated[int, typer.Option(min=2, max=1_000_000, help="Bootstrap samples.")]
Confidence = Annotated[float, typer.Option(min=0.01, max=0.999, help="Of the intervals.")]
Device = Annotated[str | None, typer.Option(help="cpu or cuda.")]
Precision = Annotated[
    Literal["auto", "fp32", "bf16", "fp16", "fp8"],
    typer.Option(help="auto, fp32, bf16, fp16, or fp8, which is fastest on Hopper and later."),
]
Pairs = Annotated[
    int | None,
    typer.Option(
        min=1, help="Pairs to judge of a prompt; all of up to 8 responses by default, 3 a response of more."
    ),
]
RowsOutput = Annotated[
    Path,
    typer.Option(
        "--output", "-o", help="A .jsonl, .csv or .parquet file; - is JSON Lines on standard output."
    ),
]
Shard = Annotated[
    str, typer.Option(help="K/N: only the K-th of N parts; whichever ends last writes the output.")
]
Shards = Annotated[int, typer.Option(min=1, help="Jobs to share the work, for --on slurm.")]
Sbatch = Annotated[list[str] | None, typer.Option(help="A flag for sbatch, such as --time=60.")]
Requeue = Annotated[bool, typer.Option(help="Requeue this job when Slurm says its time is over.")]
Retry = Annotated[
    int, typer.Option(min=0, help="How often a task whose process was killed starts again, with less memory.")
]
Strict = Annotated[bool, typer.Option(help="End with an error at a row that cannot be judged.")]
Columns = Annotated[
    list[str] | None,
    typer.Option("--map", help="Columns of other names: prompt=question,response_a=output_1,winner=label."),
]
Values = Annotated[
    list[str] | None, typer.Option("--values", help="What values of winner mean: 'A>B=a,B>A=b,A=B=tie'.")
]
Seed = Annotated[int, typer.Option(min=0, max=MAX_SEED, help="Of the votes and models that are made up.")]
On = Annotated[Literal["local", "slurm"], typer.Option(help="This machine, or jobs of a Slurm cluster.")]


def example(command: str) -> str:
    """The last line of a command's help, which is not broken."""
    return f"\b\nExample: {command}"


def arguments_of(context: typer.Context, without: Collection[str]) -> list[str]:
    """The arguments that give a command what it was given, but for the options that some parameters stand for.

    Options come first, and -- before all else, which may begin with a dash.
    """
    options: list[str] = []
    places: list[str] = []
    for parameter in context.command.params:
        value = context.params.get(str(parameter.name))
        if parameter.name in without or value is None or value is False:
            continue
        for one in value if isinstance(value, list | tuple) else [value]:
            if parameter.param_type_name == "option":
                options += [parameter.opts[0]] if one is True else [parameter.opts[0], str(one)]
            else:
                places.append(str(one))
    return [*options, "--", *places]


def words(text: str) -> tuple[str, ...]:
    return tuple(text.replace(",", " ").split())


def numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(word) for word in words(text))
    except ValueError:
        raise TiebreakError(f"--folds takes numbers such as 0,2, not {text!r}") from None


def weights_of(text: str | None) -> tuple[float, ...] | None:
    try:
        return tuple(float(word) for word in words(text)) if text else None
    except ValueError:
        raise TiebreakError(f"--weights takes numbers such as 2,1, not {text!r}") from None


def mapping_of(columns: list[str] | None, values: list[str] | None = None) -> "ColumnMap":
    """What --map and --values say."""
    from tiebreak.votes.formats.mapping import parse

    return parse(columns or (), values or ())


def shard_of(text: str) -> tuple[int, int]:
    """The part and the number of parts in K/N, the part counted from 0."""
    k, slash, n = text.partition("/")
    if not (slash and k.isdecimal() and n.isdecimal() and 1 <= int(k) <= int(n)):
        raise TiebreakError(f"--shard takes K/N with K from 1 to N, such as 2/8, not {text!r}")
    return int(k) - 1, int(n)
