"""Command line: thin calls only. Results go to stdout, all else to stderr; an error exits with 2.

Here are example, init, check and schema; `runs.py` has the commands on recipes, `models.py` those on what they made, `rows.py` those on
rows of files, `audits.py` those that examine a judge, `comparing.py` the one that compares models, `cluster.py` those on the nine scripts, `serving.py` the one that
serves a model, `sharing.py` the one that pushes it, `exporting.py` those that export it.
"""

import os
import shlex
import sys
import traceback
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
import typer.core

from tiebreak import __version__, plain, terminal
from tiebreak.cli import audits, cluster, comparing, exporting, models, rows, runs, serving, sharing
from tiebreak.cli.options import AsJson, Columns, On, Seed, Sets, Values, example, mapping_of
from tiebreak.commands.table import show_findings
from tiebreak.errors import Interrupted, TiebreakError
from tiebreak.full_disk import full_disk_as_error
from tiebreak.output import new_file
from tiebreak.recipe.basics import FEWEST_VOTES, MOST_VOTES, presets

EVERYDAY = (
    "example",
    "init",
    "check",
    "run",
    "status",
    "predict",
    "rank",
    "label",
    "evaluate",
    "compare",
    "audit",
    "report",
    "demo",
)
"""Commands that `tiebreak --help` shows first, in this order."""


class _Commands(typer.core.TyperGroup):
    """The commands, the everyday ones first.

    Ctrl-C ends them with the line of `main`, where click would end them without a word.
    """

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        everyday = {name: self.commands[name] for name in EVERYDAY if name in self.commands}
        self.commands = everyday | dict(self.commands)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the commands, each with the first paragraph of its help."""
        others = [name for name in self.commands if name not in EVERYDAY]
        for heading, names in (("Everyday commands", EVERYDAY), ("Other commands", others)):
            with formatter.section(heading):
                formatter.write_dl([(name, self.commands[name].get_short_help_str(1000)) for name in names])

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise Interrupted from None


app = typer.Typer(
    cls=_Commands,
    help="Learn from votes which of two answers people prefer: calibrated P(A), P(B), P(tie).",
    no_args_is_help=True,
    rich_markup_mode=None,  # which takes a third of the time of --help
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
UNEXPECTED = 70
"""Exit code of an error that is not the user's (EX_SOFTWARE of sysexits.h)."""
_DEBUG = "TIEBREAK_DEBUG"


def _version(wanted: bool) -> None:
    if wanted:
        terminal.result(__version__)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Say which version this is.")
    ] = False,
    debug: Annotated[bool, typer.Option(help="Show the traceback of an error that nobody expected.")] = False,
) -> None:
    if debug:
        os.environ[_DEBUG] = "1"


def main() -> None:
    """The `tiebreak` command. A TiebreakError is one line and exit code 2; what nobody expected one line and 70."""
    if closed := [name for name in ("stdout", "stderr") if getattr(sys, name) is None]:
        # the next file that is opened would take its number, and what libraries print
        terminal.note(f"error: {closed[0]} is closed; send it to a file or to /dev/null")
        sys.exit(2)
    with terminal.guarded():
        _main()


def _main() -> None:
    # batches of several sizes leave gaps in a card's segments that cannot grow
    if "PYTORCH_ALLOC_CONF" not in os.environ:
        os.environ.setdefault("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")
    terminal.log_to_stderr()
    try:
        with terminal.whole_output(), full_disk_as_error(Path.cwd()):
            app()
    except TiebreakError as error:
        terminal.note(*f"error: {error}".split("\n"))
        sys.exit(2)
    except (Interrupted, KeyboardInterrupt):
        again = shlex.join(["tiebreak", *sys.argv[1:]])
        how = "stopped at once, as far as the last checkpoints" if runs.stop.at_once else "stopped"
        terminal.note(f"{how}, nothing finished is lost; go on with: {again}")
        if runs.stop.at_once:  # Python would wait for threads, and libraries complain
            os._exit(runs.stop.exit_code)
        sys.exit(runs.stop.exit_code)
    except OSError as error:
        terminal.note(plain.message(f"error: {error.filename or 'system'}: {error.strerror or error}"))
        sys.exit(2)
    except Exception as error:
        if os.environ.get(_DEBUG):
            raise
        _report_unexpected(error)
        sys.exit(UNEXPECTED)
    finally:
        runs.stop.end()  # the exit code is known: a signal no longer changes it


def _report_unexpected(error: Exception) -> None:
    """Say in one line what happened, and keep the traceback in a file."""
    from tempfile import NamedTemporaryFile

    with NamedTemporaryFile("w", prefix="tiebreak-", suffix=".log", delete=False, encoding="utf-8") as log:
        text = f"tiebreak {__version__}: {shlex.join(sys.argv)}\n\n{traceback.format_exc()}"
        log.write(plain.lines(text))
    terminal.note(
        f"error: unexpected {type(error).__name__}: {plain.message(error):.300}",
        f"This is a fault of tiebreak; please report it with {log.name} (tiebreak --debug shows it here).",
    )


@app.command("example", epilog=example("tiebreak example votes"))
def example_votes(folder: Annotated[Path, typer.Argument(help="A folder, made if need be.")]) -> None:
    """Write example votes, made up: votes.csv to learn from, fresh.csv on other prompts to try a judge on."""
    from tiebreak.votes import examples

    terminal.result(*examples.copy_to(folder))


@app.command(epilog=example("tiebreak init judge --preset small --votes votes.csv"))
def init(
    name: Annotated[Path, typer.Argument(help="A new folder.")],
    preset: Annotated[str, typer.Option(help=f"One of {', '.join(presets())}.")] = "tiny",
    votes: Annotated[list[Path] | None, typer.Option(help="A file of votes; may be given again.")] = None,
    preferences: Annotated[list[Path] | None, typer.Option(help="Preference pairs for step 1.")] = None,
    extra: Annotated[list[Path] | None, typer.Option(help="More votes, for the training sides only.")] = None,
    test: Annotated[list[Path] | None, typer.Option(help="Pairs to predict for a submission.")] = None,
    unlabelled: Annotated[
        list[Path] | None, typer.Option(help="Pairs without votes, which the teachers score.")
    ] = None,
    map_: Columns = None,
    values: Values = None,
    synthetic: Annotated[
        int | None,
        typer.Option(min=FEWEST_VOTES, max=MOST_VOTES, help="Make up this many votes, for the preset tiny."),
    ] = None,
    seed: Seed = 0,
) -> None:
    """Write a recipe, in a new folder, from a preset. Without --votes its votes are made up."""
    from tiebreak.commands.init import MADE_UP, init_recipe

    path = init_recipe(
        name,
        preset,
        votes or (),
        preferences or (),
        synthetic,
        seed,
        extra=extra or (),
        unlabelled=unlabelled or (),
        test=test or (),
        mapping=mapping_of(map_, values),
    )
    terminal.result(path)
    if preset == "tiny" and not votes:
        terminal.note(f"{MADE_UP}; with your own: tiebreak init NAME --votes FILE")


@app.command(epilog=example("tiebreak check votes.csv"))
def check(
    data: Annotated[list[Path], typer.Argument(help="Files of votes, or one recipe.")],
    extra: Annotated[list[Path] | None, typer.Option(help="Extra votes; may be given again.")] = None,
    preferences: Annotated[list[Path] | None, typer.Option(help="Preference pairs.")] = None,
    test: Annotated[list[Path] | None, typer.Option(help="Unlabelled test pairs.")] = None,
    map_: Columns = None,
    values: Values = None,
    tokenizer: Annotated[Path | None, typer.Option(help="A model folder, to count tokens with.")] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write the card as HTML too.")] = None,
    set_: Sets = None,
    on: On = "local",
    card: Annotated[str, typer.Option(help="The jobs' GPU, such as H100, where none is here.")] = "",
    as_json: AsJson = False,
) -> None:
    """Check votes and print their data card: labels, lengths, biases, repetition, overlaps.

    Ends with 2 where a run would refuse them, such as for a file that breaks off; for files, by a recipe's defaults.
    For a recipe, run the pre-flight checks first: models, disk, memory and precision of the card, limits of Slurm.
    """
    from tiebreak.commands import outputs
    from tiebreak.commands.check import check_files, check_recipe, data_findings
    from tiebreak.commands.preflight import Preflight
    from tiebreak.data_card import view
    from tiebreak.hardware.gpu_specs import find_card

    if output:
        new_file(output, (".html",), data)
    mapping = mapping_of(map_, values)
    findings = []
    if len(data) == 1 and outputs.recipe_at(data[0]):
        if mapping:
            raise TiebreakError(
                "--map and --values are for files; in a recipe they are data.columns and data.values"
            )
        work = runs.workspace(data[0], set_)
        findings = Preflight(work, find_card(card) if card else None, on == "slurm").findings()
        show_findings(findings, as_json)
        data_card = check_recipe(work)
        of_data = list(data_findings(data_card, work.recipe.data, work.recipe.split))
    else:
        outputs.refuse_unused(set_, data)
        data_card = check_files(
            {"votes": data, "extra": extra or (), "preferences": preferences or (), "test": test or ()},
            tokenizer,
            mapping,
        )
        of_data = list(data_findings(data_card))
    show_findings(of_data, as_json)
    findings += of_data
    if output:
        view.write_html(data_card, output)
    if as_json:
        preflight = [asdict(found) for found in findings]
        terminal.show_json(data_card.as_dict() | {"preflight": preflight}, indent=2)
    else:
        terminal.show(view.terminal(data_card))
    if output:
        terminal.note(f"written: {output}")
    if any(found.level == "error" for found in findings):
        raise typer.Exit(2)


for command, line in (
    (runs.plan, "tiebreak plan judge --card H100"),
    (runs.run, "tiebreak run judge"),
    (runs.sweep, "tiebreak sweep judge --key teach.training.learning_rate --values 1e-4,3e-4"),
    (runs.task, "tiebreak task judge teach/llama-fold0"),
    (runs.step, "tiebreak step 3 judge"),
    (runs.cancel, "tiebreak cancel judge"),
    (runs.fetch, "tiebreak fetch judge"),
    (runs.status, "tiebreak status judge"),
    (runs.logs, "tiebreak logs judge teach/llama-fold0 -f"),
    (rows.predict, "tiebreak predict model pairs.csv -o judged.jsonl"),
    (rows.rank, "tiebreak rank model candidates.jsonl -o ranked.jsonl"),
    (rows.label, "tiebreak label model pairs.jsonl -o preferences.jsonl"),
    (rows.next_, "tiebreak next model pairs.jsonl -n 100 -o to_vote_on.jsonl"),
    (models.evaluate, "tiebreak evaluate model judged.csv votes.csv"),
    (comparing.compare, "tiebreak compare model ada.json bob.json --votes votes.csv"),
    (audits.audit, "tiebreak audit model votes.csv -o disagreements.csv"),
    (audits.bench, "tiebreak bench model --suite judgebench"),
    (serving.serve, "tiebreak serve model --port 8000"),
    (sharing.push, "tiebreak push demo ada/judge --private"),
    (models.report, "tiebreak report demo"),
    (models.verify, "tiebreak verify demo"),
    (runs.demo, "tiebreak demo --votes 2000"),
):
    app.command(command.__name__.rstrip("_"), epilog=example(line))(command)
app.add_typer(exporting.app, name="export", epilog=example("tiebreak export snakemake judge"))
app.add_typer(cluster.app, name="slurm", epilog=example("tiebreak slurm submit judge"))


@app.command(epilog=example("tiebreak schema"))
def schema() -> None:
    """Print the JSON schema of a recipe, for editors."""
    from tiebreak.recipe.schema import Recipe

    terminal.show_json(Recipe.model_json_schema(), indent=2)
