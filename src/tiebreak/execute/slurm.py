"""The graph as batch scripts: one submission a step, an array over its tasks, afterok edges between steps."""

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tiebreak.errors import TiebreakError
from tiebreak.execute import ranks
from tiebreak.execute.plan import state
from tiebreak.execute.workspace import Workspace
from tiebreak.pipeline import Task
from tiebreak.recipe import Recipe, Slurm

GPU_STEPS = frozenset({"post_pretrain", "teach", "score", "distill", "quantize", "predict"})
"""Steps that train a model or score with one, whatever the recipe."""

WARNING_SECONDS = 300
_WARNING_A_MINUTE = 15
"""A quarter of a short job's time, so that it gets something done in each turn."""
_OPTIONS = {
    "SBATCH_PARTITION": "partition",
    "SBATCH_QOS": "qos",
    "SBATCH_ACCOUNT": "account",
    "SBATCH_CONSTRAINT": "constraint",
    "SBATCH_RESERVATION": "reservation",
    "SBATCH_MEM_PER_NODE": "mem",
}
_GPUS = ("SBATCH_GPUS", "SBATCH_GPUS_PER_NODE", "SBATCH_GPUS_PER_TASK", "SBATCH_GPUS_PER_SOCKET")
_OURS = {
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
"""What the script says itself, and sbatch would rather believe of a variable."""


@dataclass(frozen=True)
class Submission:
    """The tasks of one step that go to Slurm together, and what they wait for.

    after: steps of this round; after_jobs: array tasks of an earlier round that are not done, such as 17_3.
    """

    step: str
    tasks: tuple[str, ...]
    after: tuple[str, ...] = ()
    after_jobs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Site:
    """What every job of a run has in common."""

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
    """The batch script of a submission; `dependencies` are the ids of the jobs that it waits for."""
    minutes = minutes_of(submission.step, site)
    warning = min(WARNING_SECONDS, _WARNING_A_MINUTE * minutes) if minutes else WARNING_SECONDS
    limit = f"%{site.settings.at_once}" if site.settings.at_once else ""
    folder = str(site.run_dir).replace("%", "%%")  # a single % begins a pattern
    directives = {
        "job-name": f"{site.name}.{submission.step}",
        "output": f'"{folder}/logs/slurm-%x-%A_%a.log"',
        "open-mode": "append",
        "array": f"0-{len(submission.tasks) - 1}{limit}",
        "time": str(minutes),
        "signal": f"B:USR1@{warning}",
        **{option: site.variables[name] for name, option in _OPTIONS.items() if name in site.variables},
    }
    if submission.step in ranks.STEPS and site.processes > 1:
        nodes = site.settings.nodes
        directives |= {"nodes": str(nodes), "ntasks-per-node": str(site.processes // nodes)}
    if cards := cards_of(submission.step, site):
        directives["gres"] = _gres(_wanted_gpu(site.variables), cards)
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


def passed_on(step: str, site: Site) -> dict[str, str]:
    """The site's variables that sbatch gets as they are: no directive stands for them.

    What is about GPUs is only for jobs that have one.
    """
    has_gpu = cards_of(step, site) > 0
    return {
        name: value
        for name, value in site.variables.items()
        if name not in _OURS and (has_gpu or "GPU" not in name)
    }


def too_large(counts: Mapping[str, int], most: int | None) -> str | None:
    """What mends a step with more tasks than one array of the cluster takes; None where there is none."""
    for step, count in counts.items():
        if most is not None and count > most:
            keys = "logits.shards or logits.folds" if step == "score" else "split.count or teach.folds"
            return (
                f"{step} has {count} tasks, the cluster takes {most} in one array (MaxArraySize): "
                f"make fewer with {keys}"
            )
    return None


def gpu_steps(recipe: Recipe) -> frozenset[str]:
    """The steps whose jobs ask for a GPU. The average scores only where votes are set aside to calibrate it on."""
    if recipe.compute.device == "cpu":
        return frozenset()
    return GPU_STEPS | {"average"} if recipe.split.calibration_share else GPU_STEPS


def cards_of(step: str, site: Site) -> int:
    """The GPUs that a step's jobs ask of each node."""
    if step not in site.gpu_steps:
        return 0
    return site.processes // site.settings.nodes if step in ranks.STEPS else 1


def _wanted_gpu(variables: Mapping[str, str]) -> str:
    """The site's GPU as a resource, such as gpu:v100:1, whichever variable names it."""
    named = (f"gpu:{variables[name]}" for name in _GPUS if name in variables)
    return variables.get("SBATCH_GRES") or next(named, "gpu")


def _gres(wanted: str, cards: int) -> str:
    """The resources that a site names, such as gpu:v100:1, with as many GPUs as a job's processes on a node."""
    return re.sub(r"\bgpu(:[^,]*?)??(:\d+)?(?=,|$)", rf"gpu\g<1>:{cards}", wanted)


def minutes_of(step: str, site: Site) -> int:
    """The time of a step's jobs: the recipe's for that step, or the profile's, or the recipe's for all.

    0 is for no limit, which only a profile asks for.
    """
    if step in site.settings.minutes_of:
        return site.settings.minutes_of[step]
    text = site.variables.get("SBATCH_TIMELIMIT")
    return minutes_in(text) if text else site.settings.minutes


def minutes_in(text: str) -> int:
    """Minutes of a time as Slurm writes it: M, M:S, H:M:S, D-H, D-H:M or D-H:M:S, one at the least; 0 for 0.

    Raises TiebreakError for a text that is none.
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
    """What to submit so that every chosen task gets done; `active` maps tasks to the array tasks that will do them.

    A fresh task goes along when something that it reads is made again: it may come out different.
    """
    active = active or {}
    again: dict[str, Task] = {}
    for task in chosen:
        disturbed = any(upstream.id in again or upstream.id in active for upstream in task.upstream())
        if task.id not in active and (disturbed or state(work, task).status != "fresh"):
            again[task.id] = task
    steps = dict.fromkeys(task.step_name for task in again.values())
    return [
        _submission(step, [t for t in again.values() if t.step_name == step], again, active) for step in steps
    ]


def _submission(
    step: str, tasks: Sequence[Task], again: Mapping[str, Task], active: Mapping[str, str]
) -> Submission:
    upstream = [up.id for task in tasks for up in task.upstream()]
    return Submission(
        step,
        tuple(task.id for task in tasks),
        tuple(dict.fromkeys(again[up].step_name for up in upstream if up in again)),
        tuple(dict.fromkeys(active[up] for up in upstream if up in active)),
    )
