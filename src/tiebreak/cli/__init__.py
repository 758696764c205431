"""Command line: thin calls only. Results go to stdout, all else to stderr; an error exits with 2.

Here are the commands on recipes; `models.py` has those on what they made.
"""

import os
import shlex
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
import typer.core

from tiebreak import __version__, plain, terminal
from tiebreak.cli import models
from tiebreak.cli.options import (
    AsJson,
    Columns,
    FoldList,
    On,
    RecipeFile,
    Seed,
    Sets,
    Steps,
    Values,
    example,
    mapping_of,
    numbers,
    words,
)
from tiebreak.commands.table import show, show_findings, show_verdict
from tiebreak.engine.signals import Stop
from tiebreak.errors import Interrupted, TiebreakError
from tiebreak.output import full_disk_as_error, new_file
from tiebreak.recipe.basics import FEWEST_VOTES, MOST_VOTES, RECIPE, SYNTHETIC_VOTES, presets

if TYPE_CHECKING:
    from tiebreak.engine.workspace import Workspace
    from tiebreak.pipeline.graph import Task


EVERYDAY = ("init", "check", "run", "status", "predict", "rank", "label", "evaluate", "report", "demo")
"""Commands that `tiebreak --help` shows first, in this order."""


class _Commands(typer.core.TyperGroup):
    """The commands, the everyday ones first.

    Ctrl-C ends them with the line of `main`, where click would end them without a word.
    """

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        everyday = {name: self.commands[name] for name in EVERYDAY if name in self.commands}
        self.commands = everyday | dict(self.commands)
        for name, command in self.commands.items():
            panel = "Everyday commands" if name in everyday else "Other commands"
            command.rich_help_panel = panel  # type: ignore[attr-defined]  # of TyperCommand

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise Interrupted from None


app = typer.Typer(
    cls=_Commands,
    help="Learn from votes which of two answers people prefer: calibrated P(A), P(B), P(tie).",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
stop = Stop()
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
        how = "stopped at once, as far as the last checkpoints" if stop.at_once else "stopped"
        terminal.note(f"{how}, nothing finished is lost; go on with: {again}")
        sys.exit(stop.exit_code)
    except OSError as error:
        terminal.note(plain.message(f"error: {error.filename or 'system'}: {error.strerror or error}"))
        sys.exit(2)
    except Exception as error:
        if os.environ.get(_DEBUG):
            raise
        _report_unexpected(error)
        sys.exit(UNEXPECTED)


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
        work = _workspace(data[0], set_)
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


@app.command(epilog=example("tiebreak plan judge --card H100"))
def plan(
    recipe: RecipeFile = Path(),
    steps: Steps = "",
    folds: FoldList = "",
    set_: Sets = None,
    on: On = "local",
    card: Annotated[str, typer.Option(help="Also tokens, hours and memory on this GPU, such as H100.")] = "",
    as_json: AsJson = False,
) -> None:
    """Print the state of every task, fresh, missing or stale, with its reason; on Slurm, the scripts to submit."""
    from tiebreak.commands.check import ingested
    from tiebreak.engine import planner
    from tiebreak.engine.trackers import require_installed
    from tiebreak.hardware.gpu_specs import find_card
    from tiebreak.slurm.jobs import SlurmJobs

    chosen = words(steps)
    gpu = find_card(card) if card else None
    work = _workspace(recipe, set_, folds, chosen)
    for found in ingested(work):
        terminal.note(found)
    if on == "slurm":
        scripts = SlurmJobs(work).planned_scripts(planner.select(work, chosen))
        texts = [text for _, text in scripts]
        if as_json:
            terminal.show_json(texts)
        else:
            terminal.result(*"\n".join(texts).split("\n"))
        return
    require_installed(work.recipe.compute.report_to)
    states = planner.plan(work, chosen)
    rows = [{"task": s.task.id, "state": s.status, "reason": str(s.reason)} for s in states]
    if gpu:
        from tiebreak.commands import forecast

        forecasts = forecast.forecasts(work, states, gpu)
        rows = [
            row | forecast.forecast_columns(found, as_json)
            for row, found in zip(rows, forecasts, strict=True)
        ]
        terminal.note(forecast.forecast_summary(states, forecasts, gpu))
    show(rows, as_json)


@app.command(epilog=example("tiebreak run judge"))
def run(
    recipe: RecipeFile = Path(),
    steps: Steps = "",
    folds: FoldList = "",
    set_: Sets = None,
    on: On = "local",
    sbatch: Annotated[list[str] | None, typer.Option(help="A flag for sbatch, such as --time=60.")] = None,
    as_json: AsJson = False,
) -> None:
    """Run every task that is missing or stale. May be stopped and started again at any moment."""
    from tiebreak.engine import planner
    from tiebreak.slurm.jobs import SlurmJobs

    chosen = words(steps)
    work = _workspace(recipe, set_, folds, chosen)
    if on == "slurm":
        made = SlurmJobs(work).submit(planner.select(work, chosen), sbatch or ())
        rows = [{"job": entry["job"], "step": entry["step"], "tasks": len(entry["tasks"])} for entry in made]
        show(rows, as_json, nothing="nothing to submit: everything is fresh or on its way")
        return
    stop.install()
    _run_and_report(work, planner.select(work, chosen), as_json)


def _run_and_report(work: "Workspace", tasks: Sequence["Task"], as_json: bool = False) -> None:
    """Run tasks here and report the outcome; failures exit with 2."""
    from tiebreak.commands import outputs
    from tiebreak.engine import local_runner

    outcome = local_runner.run(work, tasks, stop)
    evaluated = not outcome.failed and "evaluate/report" in (*outcome.done, *outcome.fresh)
    verdict = outputs.verdict(work) if evaluated else None
    if as_json:
        terminal.show_json(asdict(outcome) | {"verdict": verdict})
    if outcome.failed:
        terminal.note(
            f"not finished: {len(outcome.failed)} failed, {len(outcome.skipped)} others need them; first mend what "
            f"is said above, or it happens again, then: {shlex.join(['tiebreak', *sys.argv[1:]])}"
        )
        raise typer.Exit(2)
    if not as_json and evaluated:
        if verdict:
            show_verdict(verdict)
        model = work.folder(work.find("evaluate/report")) / "model"
        terminal.result(f"report: {outputs.write_report(work)}", f"model:  {model}")


@app.command(
    name="sweep",
    epilog=example("tiebreak sweep judge --key teach.training.learning_rate --values 1e-4,3e-4"),
)
def sweep_command(
    key: Annotated[
        list[str], typer.Option(help="A key of the recipe, such as teach.training.learning_rate.")
    ],
    values: Annotated[
        list[str], typer.Option(help="Its values, such as 1e-4,3e-4. Several keys: each its own.")
    ],
    recipe: RecipeFile = Path(),
    fold: Annotated[int, typer.Option(help="The fold to train.")] = 0,
    step: Annotated[
        Literal["teach", "distill"] | None,
        typer.Option(help="Whose models to compare; by the keys if not given."),
    ] = None,
    set_: Sets = None,
    as_json: AsJson = False,
) -> None:
    """Compare values of recipe keys on one fold by log loss on unseen votes.

    change is the paired difference from the best. A run with the chosen values reuses the artifacts made here.
    """
    from tiebreak.commands import sweep

    stop.install()
    results = sweep.sweep(sweep.arms(_workspace(recipe, set_), key, values, fold, step), fold, stop)
    if as_json:
        rows = [result.row() for result in results]
        terminal.show_json({"rows": rows, "choose": sweep.best(results).overrides}, indent=2)
    else:
        show([result.formatted() for result in results], as_json=False)
        terminal.result(f"choose: {sweep.recommended_flags(results)}")


@app.command(epilog=example("tiebreak task judge teach/llama-fold0"))
def task(
    recipe: RecipeFile,
    task_id: Annotated[str, typer.Argument(help="Such as teach/llama-fold0; `tiebreak plan` lists them.")],
    redo: Annotated[bool, typer.Option(help="Even if it is complete.")] = False,
    requeue: Annotated[bool, typer.Option(help="Requeue this job when Slurm says its time is over.")] = False,
    set_: Sets = None,
) -> None:
    """Run one task here, as a job of a cluster does; its inputs must exist."""
    from tiebreak.engine.task_runner import run_task, use_threads

    stop.install()
    work = _workspace(recipe, set_)
    use_threads(work.recipe.compute)
    chosen = work.find(task_id)
    with _requeued_in_time(work) if requeue else nullcontext():
        run_task(work, chosen, lambda line: terminal.note(f"{task_id}: {line}"), stop, redo)
    terminal.result(work.folder(chosen))


@app.command(epilog=example("tiebreak step 3 judge"))
def step(
    number: Annotated[int, typer.Argument(min=1, max=9, help="Which of the nine steps.")],
    recipe: RecipeFile = Path(),
    set_: Sets = None,
) -> None:
    """Run one of the nine steps with the variables of the environment, for the scripts of slurm/.

    The recipe is the site's; what its variables and --set change is kept in that of the scratch folder.
    """
    from tiebreak.engine.workspace import Workspace
    from tiebreak.slurm import numbered_scripts, requeue

    stop.install()
    if requeue.requeue_until_base_known(number, os.environ, Path.cwd()):
        raise typer.Exit(0)
    job = numbered_scripts.prepare(number, os.environ, _recipe_path(recipe), Path.cwd(), set_ or ())
    terminal.note(f"step {number}: {len(job.tasks)} tasks of {job.work.path}")
    if requeue.requeue_if_inputs_missing(number, job, Path.cwd()):
        raise typer.Exit(0)
    with _requeued_in_time(job.work):
        _run_and_report(Workspace(job.work.freeze()), job.tasks)  # other jobs may change the recipe meanwhile


@app.command(epilog=example("tiebreak cancel judge"))
def cancel(recipe: RecipeFile = Path(), set_: Sets = None) -> None:
    """Cancel the Slurm jobs of a run; finished artifacts and checkpoints stay."""
    from tiebreak.slurm.jobs import SlurmJobs

    cancelled = SlurmJobs(_workspace(recipe, set_)).cancel() or ["nothing was on its way"]
    terminal.result(f"cancelled: {' '.join(cancelled)}")


@app.command(epilog=example("tiebreak fetch judge"))
def fetch(recipe: RecipeFile = Path(), set_: Sets = None) -> None:
    """Download every model of a recipe to this machine, for jobs without internet."""
    for source, path in _workspace(recipe, set_).fetch().items():
        terminal.result(f"{source}: {path}")


@app.command(epilog=example("tiebreak status judge"))
def status(recipe: RecipeFile = Path(), set_: Sets = None, as_json: AsJson = False) -> None:
    """Print the status of every task: done, running with its progress, failed with the reason."""
    from tiebreak.commands.status import task_statuses

    show([asdict(row) for row in task_statuses(_workspace(recipe, set_))], as_json)


app.command(epilog=example("tiebreak predict model pairs.csv -o judged.jsonl"))(models.predict)
app.command(epilog=example("tiebreak rank model candidates.jsonl -o ranked.jsonl"))(models.rank)
app.command(epilog=example("tiebreak label model pairs.jsonl -o preferences.jsonl"))(models.label)
app.command(epilog=example("tiebreak evaluate model judged.csv votes.csv"))(models.evaluate)
app.command(epilog=example("tiebreak report demo"))(models.report)
app.command(epilog=example("tiebreak verify demo"))(models.verify)


@app.command(epilog=example("tiebreak demo --votes 2000"))
def demo(
    folder: Annotated[Path, typer.Argument(help="Where to work; an unfinished demo goes on.")] = Path("demo"),
    votes: Annotated[
        int, typer.Option(min=FEWEST_VOTES, max=MOST_VOTES, help="How many votes to make up.")
    ] = SYNTHETIC_VOTES,
    seed: Seed = 0,
) -> None:
    """Run the whole recipe in a few minutes: synthetic votes, tiny models, all nine steps, on a CPU."""
    from tiebreak.commands.demo import demo as run_demo

    stop.install()
    terminal.show_json(run_demo(folder, votes, seed, stop))


@app.command(epilog=example("tiebreak schema"))
def schema() -> None:
    """Print the JSON schema of a recipe, for editors."""
    from tiebreak.recipe.schema import Recipe

    terminal.show_json(Recipe.model_json_schema(), indent=2)


@contextmanager
def _requeued_in_time(work: "Workspace") -> Iterator[None]:
    """Requeue this Slurm job instead of failing when it is preempted or out of time."""
    from tiebreak.slurm import requeue

    try:
        yield
    except Interrupted:
        if not requeue.requeue_if_stopped(work, stop.received):
            raise
        raise typer.Exit(0) from None


def _workspace(
    recipe: Path, overrides: Sequence[str] | None, folds: str = "", steps: Sequence[str] = ()
) -> "Workspace":
    from tiebreak.engine.workspace import Workspace
    from tiebreak.pipeline.graph import fold_sections
    from tiebreak.recipe import loader

    restricted = loader.fold_overrides(numbers(folds), fold_sections(steps))
    return Workspace(_recipe_path(recipe), (*(overrides or ()), *restricted))


def _recipe_path(recipe: Path) -> Path:
    return recipe / RECIPE if recipe.is_dir() else recipe
