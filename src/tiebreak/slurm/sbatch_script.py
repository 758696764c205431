"""Batch scripts of the task graph: arrays of a step's tasks that wait for the same ones, by afterok, or each for its own, by
aftercorr.
"""

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tiebreak.engine.planner import states
from tiebreak.engine.workspace import Workspace
from tiebreak.errors import TiebreakError
from tiebreak.pipeline.graph import STEPS, Task
from tiebreak.recipe.execution import Slurm, StepJobs
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
    """The tasks of one step submitted together, and what each of them waits for.

    after: tasks that are submitted before it; after_jobs: unfinished array tasks of an earlier run, such as 17_3.
    after_each: instead of these, the tasks of one array, in its order; each task waits for the one in its own place.
    """

    step: str
    tasks: tuple[str, ...]
    after: tuple[str, ...] = ()
    after_jobs: tuple[str, ...] = ()
    after_each: tuple[str, ...] = ()

    @property
    def all_after(self) -> frozenset[str]:
        """The tasks submitted before it that any of its own waits for."""
        return frozenset((*self.after, *self.after_each))

    def alone(self) -> "list[Submission]":
        """One submission a task, each after what it waits for itself."""
        pairs = zip(self.tasks, self.after_each, strict=True)
        return [Submission(self.step, (task,), (before,)) for task, before in pairs]


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
    retries: int = 0


def script(
    submission: Submission, site: Site, dependencies: Sequence[str] = (), is_last: bool = False
) -> str:
    """The batch script of a submission; `dependencies` are job ids. is_last: nothing of the run waits for it."""
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
        **_own_options(submission.step, site),
    }
    if submission.step in _MULTIPROCESS_STEPS and site.processes > 1:
        nodes = site.settings.nodes
        directives |= {"nodes": str(nodes), "ntasks-per-node": str(site.processes // nodes)}
    if cards := cards_of(submission.step, site):
        directives["gres"] = _own(submission.step, site).gres or _gres(_site_gpu(site.variables), cards)
    if dependencies:
        kind = "aftercorr" if submission.after_each else "afterok"
        directives |= {"dependency": f"{kind}:{':'.join(dependencies)}", "kill-on-invalid-dep": "yes"}
    if is_last and site.settings.mail:
        directives |= {"mail-user": site.settings.mail, "mail-type": "END,FAIL,INVALID_DEPEND"}
    own = _own(submission.step, site)
    source = [f"source {shlex.quote(str(site.profile))}"] if site.profile else []
    inside = f"apptainer exec --nv {shlex.quote(own.container)} " if own.container else ""
    recipe = shlex.quote(str(site.recipe))
    retry = f"--retry {site.retries} " if site.retries else ""
    lines = [
        "#!/bin/bash",
        "#SBATCH --requeue",
        *(f"#SBATCH --{option}={value}" for option, value in directives.items()),
        "trap '' USR1  # until tiebreak listens: Slurm's warning before the end",
        *source,
        *own.before,
        f"tasks=({' '.join(shlex.quote(task) for task in submission.tasks)})",
        f'exec {inside}{site.tiebreak} task --requeue {retry}{recipe} "${{tasks[SLURM_ARRAY_TASK_ID]}}"',
    ]
    return "\n".join(lines) + "\n"


def follow_up_script(site: Site, jobs: Sequence[str]) -> str:
    """The batch script that submits what a limit left out, once these jobs have ended, however they did."""
    folder = str(site.run_dir).replace("%", "%%")
    directives = {
        "job-name": f"{site.name}.rest",
        "output": f'"{folder}/logs/slurm-%x-%j.log"',
        "time": "60",
        **{option: site.variables[name] for name, option in _OPTIONS.items() if name in site.variables},
        "dependency": "afterany:" + ":".join(jobs),
    }
    lines = [
        "#!/bin/bash",
        *(f"#SBATCH --{option}={value}" for option, value in directives.items()),
        *([f"source {shlex.quote(str(site.profile))}"] if site.profile else []),
        f"exec {site.tiebreak} slurm rest {shlex.quote(str(site.recipe))}",
    ]
    return "\n".join(lines) + "\n"


def _own(step: str, site: Site) -> StepJobs:
    return site.settings.steps.get(step, StepJobs())


def _own_options(step: str, site: Site) -> dict[str, str]:
    """Directives from the recipe's settings for the jobs of a step alone."""
    own = _own(step, site)
    given = {"partition": own.partition, "qos": own.qos, "account": own.account, "mem": own.mem}
    return {option: value for option, value in given.items() if value}


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
    if own := _own(step, site).minutes:
        return own
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
    work: Workspace,
    chosen: Sequence[Task],
    active: Mapping[str, str] | None = None,
    largest_array: int | None = None,
) -> list[Submission]:
    """The submissions that complete every chosen task; `active` maps tasks to the array tasks that will run them.

    A fresh task is included when one of its inputs is made again, which may change it. Tasks of a step that wait for the
    same ones are an array of at most `largest_array`, and so are those of which each waits for one of another array: a fold
    goes on when its own inputs are made.
    """
    active = active or {}
    to_run: dict[str, Task] = {}
    for task, found in zip(chosen, states(work, chosen), strict=True):
        input_changes = any(upstream.id in to_run or upstream.id in active for upstream in task.upstream())
        if task.id not in active and (input_changes or found.status != "fresh"):
            to_run[task.id] = task
    groups: dict[tuple[str, tuple[str, ...], tuple[str, ...]], list[str]] = {}
    reached: dict[str, frozenset[str]] = {}
    for task in to_run.values():
        direct = dict.fromkeys(up.id for up in task.upstream())
        implied = frozenset[str]().union(*(reached[up] for up in direct if up in to_run))
        reached[task.id] = implied.union(up for up in direct if up in to_run)
        after = tuple(up for up in direct if up in to_run and up not in implied)
        after_jobs = tuple(active[up] for up in direct if up in active)
        groups.setdefault((task.step.name, after, after_jobs), []).append(task.id)
    return _arrays(groups, largest_array)


def _arrays(
    groups: Mapping[tuple[str, tuple[str, ...], tuple[str, ...]], list[str]], largest_array: int | None
) -> list[Submission]:
    """The arrays of tasks that are grouped by step and what they wait for: after, after_jobs."""
    own: dict[str, dict[str, list[str]]] = {}
    for (step, after, after_jobs), tasks in groups.items():
        if len(after) == 1 and not after_jobs:
            own.setdefault(step, {})[after[0]] = tasks
    made: list[Submission] = []
    arrays: dict[str, tuple[str, ...]] = {}
    for (step, after, after_jobs), tasks in groups.items():
        if tasks[0] in arrays:
            continue
        pairs = _paired(step, arrays[after[0]], own[step]) if len(after) == 1 and not after_jobs else []
        chunks = (Submission(step, chunk, after, after_jobs) for chunk in _chunks(tasks, largest_array))
        for found in pairs or chunks:
            made.append(found)
            arrays |= dict.fromkeys(found.tasks, found.tasks)
    return made


def _paired(step: str, source: Sequence[str], own: Mapping[str, Sequence[str]]) -> list[Submission]:
    """Arrays beside that of the `source` tasks, if equally many tasks of a step wait for each of those alone; else none."""
    waiting = [own.get(task, ()) for task in source]
    if len(source) < 2 or len({len(tasks) for tasks in waiting}) > 1:
        return []
    return [Submission(step, tasks, after_each=tuple(source)) for tasks in zip(*waiting, strict=True)]


def _chunks(tasks: Sequence[str], most: int | None) -> Iterator[tuple[str, ...]]:
    size = most or len(tasks)
    for start in range(0, len(tasks), size):
        yield tuple(tasks[start : start + size])


def dependencies(planned: Submission, submitted: Mapping[str, Sequence[str]]) -> list[str]:
    """The jobs that a submission waits for: arrays, or single tasks of them such as 17_3; with `after_each` the one array.

    submitted: the tasks of each job so far.
    """
    needed = planned.all_after
    found = list(planned.after_jobs)
    for job, tasks in submitted.items():
        indices = [n for n, task in enumerate(tasks) if task in needed]
        found += [job] if len(indices) == len(tasks) else [f"{job}_{n}" for n in indices]
    return found
