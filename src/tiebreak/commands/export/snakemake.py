"""Export of a run as a Snakemake workflow: a rule for each task, whose output is the task's manifest.

Snakemake brings executors for other schedulers and clouds. A rule calls `tiebreak task`, so that a task that was stopped goes on
from its checkpoint, and one that `tiebreak run` has made is not made again.
"""

import re
import shlex
from collections.abc import Iterable
from pathlib import Path

from tiebreak.engine.artifacts import MANIFEST
from tiebreak.engine.workspace import Workspace
from tiebreak.errors import TiebreakError
from tiebreak.output import write_atomically
from tiebreak.pipeline.graph import Task
from tiebreak.recipe.execution import StepJobs
from tiebreak.slurm.jobs import tiebreak_command


def export(work: Workspace, path: Path) -> Path:
    """Write the workflow of a recipe as it is now, whose jobs read a copy of it in the run's folder. Returns its path.

    Raises TiebreakError for a run folder with braces, which Snakemake takes for wildcards.
    """
    if set("{}") & set(str(work.run_dir.resolve())):
        raise TiebreakError(
            f"the run folder {work.run_dir} has braces, which Snakemake takes for wildcards; move it, or set run_dir to a "
            "folder without"
        )
    recipe = work.freeze()
    snapshot = work.snapshot()
    inputs = {up.id for task in work.tasks for up in task.upstream()}
    last = [task for task in work.tasks if task.id not in inputs]
    rules = [_rule("all", {"input": _files(snapshot, last)})]
    rules += [_task_rule(snapshot, task, recipe) for task in work.tasks]
    head = "# Written by tiebreak export snakemake. Run it: snakemake --cores 2 --resources gpu=1"
    write_atomically(path, "\n\n".join([head, *rules]))
    return path.resolve()


def _task_rule(work: Workspace, task: Task, recipe: Path) -> str:
    command = [str(tiebreak_command()), "task", str(recipe), task.id]
    sections = {
        "input": _files(work, task.upstream()),
        "output": _files(work, [task]),
        "resources": _resources(work, task),
        "shell": [repr(shlex.join(command))],
    }
    return _rule(re.sub(r"\W", "_", task.id), sections)


def _resources(work: Workspace, task: Task) -> list[str]:
    """Cards of the task, and minutes, by Snakemake's own names."""
    settings, compute = work.recipe.slurm, work.recipe.compute
    own = settings.steps.get(task.step.name, StepJobs())
    found = [f"runtime={own.minutes or settings.minutes}"]
    if compute.device != "cpu" and task.step.needs_gpu(work.recipe):
        found.append(f"gpu={compute.processes if task.step.is_multiprocess else 1}")
    return found


def _files(work: Workspace, tasks: Iterable[Task]) -> list[str]:
    return [
        repr(str(work.folder(task).resolve() / MANIFEST))
        for task in {task.id: task for task in tasks}.values()
    ]


def _rule(name: str, sections: dict[str, list[str]]) -> str:
    parts = [
        f"    {section}:\n        " + ",\n        ".join(lines)
        for section, lines in sections.items()
        if lines
    ]
    return "\n".join([f"rule {name}:", *parts]) + "\n"
