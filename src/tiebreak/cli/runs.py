"""Commands on recipes: plan, run, sweep, task, step, cancel, fetch, status, demo."""

import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from tiebreak import terminal
from tiebreak.cli.options import (
    AsJson,
    FoldList,
    On,
    RecipeFile,
    Requeue,
    Retry,
    Sbatch,
    Seed,
    Sets,
    Steps,
    numbers,
    words,
)
from tiebreak.commands.table import show, show_verdict
from tiebreak.engine.signals import Stop
from tiebreak.errors import Interrupted
from tiebreak.full_disk import full_disks
from tiebreak.recipe.basics import FEWEST_VOTES, MOST_VOTES, RECIPE, SYNTHETIC_VOTES

if TYPE_CHECKING:
    from tiebreak.commands.status import Status
    from tiebreak.engine.workspace import Workspace
    from tiebreak.pipeline.graph import Task

stop = Stop()


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
    work = workspace(recipe, set_, folds, chosen)
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


def run(
    recipe: RecipeFile = Path(),
    steps: Steps = "",
    folds: FoldList = "",
    set_: Sets = None,
    on: On = "local",
    sbatch: Sbatch = None,
    retry: Retry = 0,
    as_json: AsJson = False,
) -> None:
    """Run every task that is missing or stale. May be stopped and started again at any moment."""
    from tiebreak.engine import planner
    from tiebreak.slurm.jobs import SlurmJobs

    chosen = words(steps)
    work = workspace(recipe, set_, folds, chosen)
    if on == "slurm":
        made = SlurmJobs(work).submit(planner.select(work, chosen), sbatch or (), retry)
        rows = [{"job": entry["job"], "step": entry["step"], "tasks": len(entry["tasks"])} for entry in made]
        show(rows, as_json, nothing="nothing to submit: everything is fresh or on its way")
        return
    stop.install()
    _run_and_report(work, planner.select(work, chosen), as_json, retry)


def _run_and_report(
    work: "Workspace", tasks: Sequence["Task"], as_json: bool = False, retry: int = 0
) -> None:
    """Run tasks here and report the outcome; failures exit with 2."""
    from tiebreak.commands import outputs
    from tiebreak.engine import local_runner

    outcome = local_runner.run(work, tasks, stop, retries=retry)
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
        if submission := outputs.write_submission(work):
            terminal.result(f"submission: {submission}")


def sweep(
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
    from tiebreak.commands import sweep as sweeping

    stop.install()
    results = sweeping.sweep(sweeping.arms(workspace(recipe, set_), key, values, fold, step), fold, stop)
    if as_json:
        rows = [result.row() for result in results]
        terminal.show_json({"rows": rows, "choose": sweeping.best(results).overrides}, indent=2)
    else:
        show([result.formatted() for result in results], as_json=False)
        terminal.result(f"choose: {sweeping.recommended_flags(results)}")


def task(
    recipe: RecipeFile,
    task_id: Annotated[str, typer.Argument(help="Such as teach/llama-fold0; `tiebreak plan` lists them.")],
    redo: Annotated[bool, typer.Option(help="Even if it is complete.")] = False,
    requeue: Requeue = False,
    retry: Retry = 0,
    set_: Sets = None,
) -> None:
    """Run one task here, as a job of a cluster does; its inputs must exist."""
    from tiebreak.engine.task_runner import run_task, use_threads

    stop.install()
    work = workspace(recipe, set_)
    use_threads(work.recipe.compute)
    chosen = work.find(task_id)
    with _requeued_in_time(work) if requeue else nullcontext():
        if retry and not redo:  # a process of its own, so that this one outlives it
            _run_and_report(work, [chosen], retry=retry)
        else:
            run_task(work, chosen, lambda line: terminal.note(f"{task_id}: {line}"), stop, redo)
    terminal.result(work.folder(chosen))


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
    terminal.note(*requeue.died_early(Path.cwd()))
    if requeue.requeue_until_base_known(number, os.environ, Path.cwd()):
        raise typer.Exit(0)
    job = numbered_scripts.prepare(number, os.environ, _recipe_path(recipe), Path.cwd(), set_ or ())
    terminal.note(
        f"step {number}: {len(job.tasks)} tasks of {job.work.path}", *numbered_scripts.outlook(job, number)
    )
    if requeue.requeue_if_inputs_missing(number, job, Path.cwd()):
        raise typer.Exit(0)
    with _requeued_in_time(job.work):
        _run_and_report(Workspace(job.work.freeze()), job.tasks)  # other jobs may change the recipe meanwhile


def cancel(recipe: RecipeFile = Path(), set_: Sets = None) -> None:
    """Cancel the Slurm jobs of a run; finished artifacts and checkpoints stay."""
    from tiebreak.slurm.jobs import SlurmJobs

    cancelled = SlurmJobs(workspace(recipe, set_)).cancel() or ["nothing was on its way"]
    terminal.result(f"cancelled: {' '.join(cancelled)}")


def fetch(recipe: RecipeFile = Path(), set_: Sets = None) -> None:
    """Download every model of a recipe to this machine, for jobs without internet."""
    for source, path in workspace(recipe, set_).fetch().items():
        terminal.result(f"{source}: {path}")


def status(
    recipe: RecipeFile = Path(),
    set_: Sets = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Again every few seconds, with the losses, until nothing runs.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Print the status of every task: done, running with its progress, failed with the reason; on Slurm its job too."""
    from tiebreak.commands.status import task_statuses, total

    work = workspace(recipe, set_)
    if watch:
        _watch(work)
    work = work.snapshot()
    if not watch:
        show([asdict(row) for row in task_statuses(work)], as_json)
    terminal.note(total(work), *full_disks([work.run_dir]))


def _watch(work: "Workspace") -> None:
    """Show what is not done, in place on a terminal."""
    from rich.console import Group
    from rich.live import Live

    from tiebreak.commands.table import table
    from tiebreak.commands.watch import Curves, sparkline, summary, watch
    from tiebreak.console import Terminal

    with Live(console=Terminal(), auto_refresh=False, vertical_overflow="crop") as live:

        def refresh(statuses: "Sequence[Status]", losses: Curves) -> None:
            rows = [
                asdict(row) | {"loss": sparkline(losses[row.task]) if row.task in losses else ""}
                for row in statuses
                if row.state != "done"
            ]
            live.update(Group(summary(statuses), table(rows) if rows else ""), refresh=True)

        watch(work, refresh)


def logs(
    recipe: RecipeFile,
    task_id: Annotated[str, typer.Argument(help="Such as teach/llama-fold0; `tiebreak plan` lists them.")],
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Also what is written from now on.")] = False,
    set_: Sets = None,
) -> None:
    """Print the log of a task: of its newest job of Slurm, or of its worker on this machine."""
    from tiebreak.commands.logs import lines, newest_log

    work = workspace(recipe, set_)
    for line in lines(newest_log(work, work.find(task_id)), follow=lambda: follow):
        terminal.result(line)


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


def workspace(
    recipe: Path, overrides: Sequence[str] | None, folds: str = "", steps: Sequence[str] = ()
) -> "Workspace":
    """The workspace of a recipe, given by its path or its folder, with values of --set and --folds."""
    from tiebreak.engine.workspace import Workspace
    from tiebreak.pipeline.graph import fold_sections
    from tiebreak.recipe import loader

    restricted = loader.fold_overrides(numbers(folds), fold_sections(steps))
    return Workspace(_recipe_path(recipe), (*(overrides or ()), *restricted))


def _recipe_path(recipe: Path) -> Path:
    return recipe / RECIPE if recipe.is_dir() else recipe
