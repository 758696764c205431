"""Batch scripts of the task graph: one submission per step, an array over its tasks, afterok dependencies."""

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tiebreak.engine.planner import state
from tiebreak.engine.workspace import Workspace
from tiebreak.errors import TiebreakError
from tiebreak.pipeline.graph import STEPS, Task
from tiebreak.recipe.execution import Slurm
from tiebreak.recipe.schema import Recipe

_MULTIPROCESS_STEPS = frozenset(step.name for step in STEPS if step.is_multiprocess)
WARNING_SECONDS = 300
_WARNING_SECONDS_PER_MINUTE = 15
"""A quarter of a short job's time, so that it makes progress in each run."""
_OPTIONS = {
    "SBATCH_PARTITION": "partition",
    "SBATCH_QOS": "qos",
    "SBATCH_ACCOUNT": "account",
    "SBATCH_CONSTRAINT": "constraint",
    "SBATCH_RESERVATION": "reservation",
    "SBATCH_MEM_PER_NODE": "mem",
}
_GPUS = ("SBATCH_GPUS", "SBATCH_GPUS_PER_NODE", "SBATCH_GPUS_PER_TASK", "SBATCH_GPUS_PER_SOCKET")
_SET_BY_SCRIPT = {
    "SBATCH_ARRAY_INX",
    "SBATCH_ERROR",
    "SBATCH_GRES",
    "SBATCH_JOB_NAME",
    "SBATCH_NO_REQUEUE",
    "SBATCH_OPEN_MODE",
    "SBATCH_OUTPUT",
    "SBATCH_REQUEUE",
    "SBATCH_SIGNAL",
    "SBATCH_TIMELIMIT",
    "SBATCH_WAIT",
    *_OPTIONS,
    *_GPUS,
}
"""Options set by the script itself, which sbatch would override by these variables."""


@dataclass(frozen=True)
class Submission:
    """The tasks of one step submitted together, and their dependencies.

    after: steps of this submission; after_jobs: unfinished array tasks of an earlier one, such as 17_3.
    """

    step: str
    tasks: tuple[str, ...]
    after: tuple[str, ...] = ()
    after_jobs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Site:
    """Common settings of a run's jobs."""

    name: str
    run_dir: Path
    recipe: Path
    profile: Path | None
    variables: Mapping[str, str]
    settings: Slurm
    gpu_steps: frozenset[str]
    tiebreak: str
    processes: int = 1


def script(submission: Submission, site: Site, dependencies: Sequence[str] = ()) -> str:
    """The batch script of a submission; `dependencies` are job ids."""
    minutes = minutes_of(submission.step, site)
    warning = min(WARNING_SECONDS, _WARNING_SECONDS_PER_MINUTE * minutes) if minutes else WARNING_SECONDS
    limit = f"%{site.settings.at_once}" if site.settings.at_once else ""
    folder = str(site.run_dir).replace("%", "%%")  # a single % starts a pattern
    directives = {
        "job-name": f"{site.name}.{submission.step}",
        "output": f'"{folder}/logs/slurm-%x-%A_%a.log"',
        "open-mode": "append",
        "array": f"0-{len(submission.tasks) - 1}{limit}",
        "time": str(minutes),
        "signal": f"B:USR1@{warning}",
        **{option: site.variables[name] for name, option in _OPTIONS.items() if name in site.variables},
    }
    if submission.step in _MULTIPROCESS_STEPS and site.processes > 1:
        nodes = site.settings.nodes
        directives |= {"nodes": str(nodes), "ntasks-per-node": str(site.processes // nodes)}
    if cards := cards_of(submission.step, site):
        directives["gres"] = _gres(_site_gpu(site.variables), cards)
    if dependencies:
        directives |= {"dependency": "afterok:" + ":".join(dependencies), "kill-on-invalid-dep": "yes"}
    source = [f"source {shlex.quote(str(site.profile))}"] if site.profile else []
    recipe = shlex.quote(str(site.recipe))
    lines = [
        "#!/bin/bash",
        "#SBATCH --requeue",
        *(f"#SBATCH --{option}={value}" for option, value in directives.items()),
        "trap '' USR1  # until tiebreak listens: Slurm's warning before the end",
        *source,
        f"tasks=({' '.join(shlex.quote(task) for task in submission.tasks)})",
        f'exec {site.tiebreak} task --requeue {recipe} "${{tasks[SLURM_ARRAY_TASK_ID]}}"',
    ]
    return "\n".join(lines) + "\n"


def passthrough_variables(step: str, site: Site) -> dict[str, str]:
    """The site's variables passed to sbatch unchanged, as no directive sets them.

    GPU variables are for jobs with a GPU only.
    """
    has_gpu = cards_of(step, site) > 0
    return {
        name: value
        for name, value in site.variables.items()
        if name not in _SET_BY_SCRIPT and (has_gpu or "GPU" not in name)
    }


def array_too_large(counts: Mapping[str, int], most: int | None) -> str | None:
    """The error text for a step with more tasks than the cluster's largest array; None if there is none."""
    for step, count in counts.items():
        if most is not None and count > most:
            keys = "logits.shards or logits.folds" if step == "score" else "split.count or teach.folds"
            return (
                f"{step} has {count} tasks, the cluster takes {most} in one array (MaxArraySize): "
                f"make fewer with {keys}"
            )
    return None


def gpu_steps(recipe: Recipe) -> frozenset[str]:
    """The steps whose jobs request a GPU."""
    if recipe.compute.device == "cpu":
        return frozenset()
    return frozenset(step.name for step in STEPS if step.needs_gpu(recipe))


def cards_of(step: str, site: Site) -> int:
    """The GPUs per node that a step's jobs request."""
    if step not in site.gpu_steps:
        return 0
    return site.processes // site.settings.nodes if step in _MULTIPROCESS_STEPS else 1


def _site_gpu(variables: Mapping[str, str]) -> str:
    """The site's GPU as a resource, such as gpu:v100:1, from any of its variables."""
    named = (f"gpu:{variables[name]}" for name in _GPUS if name in variables)
    return variables.get("SBATCH_GRES") or next(named, "gpu")


def _gres(wanted: str, cards: int) -> str:
    """The site's resources, such as gpu:v100:1, with the number of GPUs set to `cards`."""
    return re.sub(r"\bgpu(:[^,]*?)??(:\d+)?(?=,|$)", rf"gpu\g<1>:{cards}", wanted)


def minutes_of(step: str, site: Site) -> int:
    """The time limit of a step's jobs: the recipe's for that step, or the profile's, or the recipe's for all.

    0 for no limit, which only a profile can set.
    """
    if step in site.settings.minutes_of:
        return site.settings.minutes_of[step]
    text = site.variables.get("SBATCH_TIMELIMIT")
    return minutes_in(text) if text else site.settings.minutes


def minutes_in(text: str) -> int:
    """Parse a time in Slurm's format to minutes: M, M:S, H:M:S, D-H, D-H:M or D-H:M:S, at least one; 0 for 0.

    Raises TiebreakError for an invalid text.
    """
    if not re.fullmatch(r"(\d+-\d+(:\d+){0,2})|(\d+(:\d+){0,2})", text):
        raise TiebreakError(f"SBATCH_TIMELIMIT={text!r} is no time of Slurm's, such as 90 or 1-12:00:00")
    if not text.strip("0:-"):
        return 0
    days, _, clock = text.rpartition("-")
    parts = [int(part) for part in clock.split(":")]
    if days or len(parts) == 3:
        hours, minutes = (*parts, 0)[:2]
        return max(1, 1440 * int(days or 0) + 60 * hours + minutes)
    return max(1, parts[0])


def submissions(
    work: Workspace, chosen: Sequence[Task], active: Mapping[str, str] | None = None
) -> list[Submission]:
    """The submissions that complete every chosen task; `active` maps tasks to the array tasks that will run them.

    A fresh task is included when one of its inputs is made again, which may change it.
    """
    active = active or {}
    to_run: dict[str, Task] = {}
    for task in chosen:
        input_changes = any(upstream.id in to_run or upstream.id in active for upstream in task.upstream())
        if task.id not in active and (input_changes or state(work, task).status != "fresh"):
            to_run[task.id] = task
    steps = dict.fromkeys(task.step.name for task in to_run.values())
    return [
        _submission(step, [t for t in to_run.values() if t.step.name == step], to_run, active)
        for step in steps
    ]


def _submission(
    step: str, tasks: Sequence[Task], to_run: Mapping[str, Task], active: Mapping[str, str]
) -> Submission:
    upstream = [up.id for task in tasks for up in task.upstream()]
    return Submission(
        step,
        tuple(task.id for task in tasks),
        tuple(dict.fromkeys(to_run[up].step.name for up in upstream if up in to_run)),
        tuple(dict.fromkeys(active[up] for up in upstream if up in active)),
    )
