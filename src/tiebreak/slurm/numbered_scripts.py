"""Numbered scripts of slurm/: steps over a scratch folder, whose recipe accumulates their variables.

<SCRATCH_BASE>/recipe.yaml starts as the site's recipe. Each step first applies its variables to it, so that FOLDS=0
of step 5 still holds at step 6, and `tiebreak run <SCRATCH_BASE>` continues the scripts' run. Folds and teachers
accumulate over jobs: TEACHER_FOLDS=0 and TEACHER_FOLDS=1 may be two jobs.
"""

import json
import re
import time
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tiebreak.engine.artifacts import try_lock
from tiebreak.engine.planner import state
from tiebreak.engine.workspace import Workspace, absolute_paths
from tiebreak.errors import TiebreakError, nearest
from tiebreak.output import new_folder, no_link, write_atomically
from tiebreak.pipeline.graph import STEPS, Task
from tiebreak.recipe import loader
from tiebreak.recipe.basics import RECIPE
from tiebreak.recipe.environment import SetVariable, count, key_of, read_variables
from tiebreak.recipe.schema import Recipe
from tiebreak.recipe.values import FOLD_SECTIONS, FoldSection, check_location

SCRIPTS = {
    1: "step1_post_pretrain",
    2: "step2_make_folds",
    3: "step3_train_teachers",
    4: "step4_infer_teacher_logits",
    5: "step5_distill_student",
    6: "step6_lora_ensemble",
    7: "step7_quantize_gptq",
    8: "step8_infer_tta",
    9: "step9_eval",
}
STORED_BASE = ".scratch_base"
STARTS = ".starts"
"""Lines of run_step.sh on the jobs that started: number, step and SCRATCH_BASE, with tabs between them."""
_PUBLISHED = ("llama", "qwen")
_FOLD_SECTION = {step.number: step.fold_section for step in STEPS}
_FOLD_VARIABLE: dict[FoldSection, str] = {
    "teach": "TEACHER_FOLDS",
    "logits": "INFER_FOLDS",
    "distill": "FOLDS",
}


_FOLD_KEY = {name: f"{section}.folds" for section, name in _FOLD_VARIABLE.items()}


@dataclass(frozen=True)
class _Selection:
    """The tasks of a step that a job does, by their teacher (None: the student) and shard; None for all."""

    teachers: Set[str | None] | None = None
    shard: int | None = None

    def includes(self, task: Task) -> bool:
        return (self.teachers is None or task.teacher in self.teachers) and self.shard in (None, task.shard)


@dataclass(frozen=True)
class Job:
    """Job of one script: its tasks, under the scratch folder's recipe."""

    work: Workspace
    tasks: tuple[Task, ...]


def prepare(
    step: int, environment: Mapping[str, str], site_recipe: Path, folder: Path, sets: Sequence[str] = ()
) -> Job:
    """Update the scratch folder's recipe with a step's variables, and select the step's tasks.

    folder: the scripts' folder. sets: further changes of the recipe, which win over the variables; locations start
    at the site's recipe. Raises TiebreakError for an invalid variable, fold or model, by the variables' names.
    """
    return prepare_in(scratch_base(environment, folder), step, environment, site_recipe, sets)


def prepare_in(
    base: Path, step: int, environment: Mapping[str, str], site_recipe: Path, sets: Sequence[str] = ()
) -> Job:
    """`prepare` in this scratch folder, whatever SCRATCH_BASE says."""
    if not (base / RECIPE).is_file() and not site_recipe.is_file():
        raise TiebreakError(
            f"no recipe at {site_recipe.absolute()}, where RECIPE says (in profile.sh, or the shell's). Set it there, or "
            "write scripts, profile and recipe with: tiebreak slurm init FOLDER --preset sc4000 --votes FILE"
        )
    new_folder(base)
    with _locked(base):
        path = base / RECIPE
        site = (
            None
            if path.is_file() and not site_recipe.is_file()
            else Workspace(site_recipe).with_absolute_paths()
        )
        stored = loader.load(path).model_dump(mode="json") if path.is_file() else _initial_recipe(site)
        values = read_variables(step, environment, _models(site or stored, stored))
        tree, overrides = _updated_recipe(step, values, stored, site or stored, path)
        with _named_by_variables(values):
            origin = " ".join([f"{path} with", *(f"{name}={environment[name]}" for name in values), *sets])
            recipe = loader.parse(tree, origin, sets)
            if sets:
                tree = absolute_paths(recipe, site_recipe.resolve().parent)
                recipe = loader.parse(tree, origin)
            selection = _selection(step, values, loader.parse(tree, origin, overrides))
        _write_if_changed(path, recipe)  # validated: from here on nothing is refused
        work = Workspace(path, overrides)
        job = Job(work, tuple(_select_tasks(step, selection, work)))
        if step in (3, 4):
            _reserve_folders(job, step)
    return job


def outlook(job: Job, step: int) -> Iterator[str]:
    """Lines on what a step does to a series in which it was done before: what is made again and why, what then is outdated."""
    states = [state(job.work, task) for task in job.work.tasks]
    own = {task.id for task in job.tasks}
    yield from (
        f"made again: {s.task.id} ({s.reason})" for s in states if s.task.id in own and s.status == "stale"
    )
    if all(s.status == "fresh" for s in states if s.task.id in own):
        yield "nothing to do: all of it is made, with these values"
    later = {s.task.step.number for s in states if s.status == "stale" and s.task.id not in own}
    if numbers := sorted(number for number in later if number and number > step):
        yield f"outdated, so give them again behind this one: steps {', '.join(map(str, numbers))}"


def scratch_base(environment: Mapping[str, str], folder: Path) -> Path:
    """SCRATCH_BASE; if unset, that of this job's first start, of the job before it, or the last one set here.

    The default is `scratch` beside the scripts. It is stored for this job's next start and for later jobs, before
    anything can be refused, so that those after a refused job do not go into an earlier series; those after one that
    died before tiebreak started neither. Raises TiebreakError
    for what is no path.
    """
    given = environment.get("SCRATCH_BASE", "").strip()
    number = _job_number(environment)
    known = stored_bases(folder)
    early = {
        start.job: start.base for start in unheard_of(folder) if start.base.strip() and start.job < number
    }
    if given:
        text = given
    else:
        before = known | early
        last = max((job for job in before if 0 < job <= number), default=0)
        text = before.get(last, "scratch")
    stored = ({0: text} if given else {}) | ({number: text} if number else {})
    _store_bases(folder, {job: base for job, base in stored.items() if known.get(job) != base})
    try:
        return (folder / Path(check_location(text)).expanduser()).resolve()
    except (ValueError, OSError, RuntimeError) as error:  # links that go round in a circle, too
        raise TiebreakError(f"SCRATCH_BASE: {error}") from None


def stored_bases(folder: Path) -> dict[int, str]:
    """SCRATCH_BASE by the numbers of the jobs that started from this folder; at 0 the last that was given."""
    path = folder / STORED_BASE
    if not path.is_file():
        return {}
    return dict(json.loads(line) for line in path.read_text(encoding="utf-8").splitlines())


@dataclass(frozen=True)
class Start:
    """A job of a script that began; base is its SCRATCH_BASE, empty if unset."""

    job: int
    step: int
    base: str

    def __str__(self) -> str:
        script = SCRIPTS[self.step]
        return (
            f"job {self.job} ({script}) ended before tiebreak started, so nothing of it is done: its log, by default "
            f"{script}-{self.job}.log, says why; mend profile.sh, and give it again"
        )


def unheard_of(folder: Path) -> list[Start]:
    """The jobs after the last one known to tiebreak that began, and of which it knows nothing: they have just begun, or died.

    Such as where profile.sh fails, or activates an environment that is gone.
    """
    path = folder / STARTS
    if not path.is_file():
        return []
    known = stored_bases(folder)
    rows = (line.split("\t", 2) for line in path.read_text("utf-8", errors="replace").splitlines())
    starts = {int(row[0]): Start(int(row[0]), int(row[1]), row[2]) for row in rows if len(row) == 3}
    return [start for job, start in sorted(starts.items()) if job > max(known, default=0)]


def _store_bases(folder: Path, bases: Mapping[int, str]) -> None:
    if bases:
        with open(folder / STORED_BASE, "a", encoding="utf-8", opener=no_link) as file:
            file.write("".join(f"{json.dumps(entry)}\n" for entry in bases.items()))


def _job_number(environment: Mapping[str, str]) -> int:
    """The number of this Slurm job, 0 outside Slurm."""
    return count(environment, "SLURM_ARRAY_JOB_ID", 0) or count(environment, "SLURM_JOB_ID", 0)


@contextmanager
def _named_by_variables(values: Mapping[str, SetVariable]) -> Iterator[None]:
    """Let errors speak of variables by their names, in place of the recipe's keys that they set."""
    try:
        yield
    except TiebreakError as error:
        text = str(error)
        for name, item in values.items():
            key = re.escape(_FOLD_KEY.get(name) or _key(item) or name)
            text = re.sub(key.replace(r"\*", r"[^.\s]+"), name, text)
        raise TiebreakError(*text.split("\n")) from None


@contextmanager
def _locked(base: Path) -> Iterator[None]:
    """Lock the scratch folder's recipe against other jobs."""
    with open(base / f".{RECIPE}.lock", "w", opener=no_link) as file:
        while not try_lock(file.fileno()):
            time.sleep(0.1)
        yield


def _initial_recipe(site: dict[str, Any] | None) -> dict[str, Any]:
    assert site is not None
    return site | {"run_dir": "run"}


def _models(site: dict[str, Any], stored: dict[str, Any]) -> dict[str, Any]:
    """Valid names for <MODEL>."""
    return dict.fromkeys((*site["models"]["teachers"], *stored["models"]["teachers"], *_PUBLISHED))


def _updated_recipe(
    step: int, values: Mapping[str, SetVariable], stored: dict[str, Any], site: dict[str, Any], path: Path
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The recipe to store, updated with a step's `values`, and overrides for this job only."""
    tree: dict[str, Any] = yaml.safe_load(yaml.safe_dump(stored))
    if step in (3, 4):
        tree["models"]["teachers"] = _teachers(step, values, stored, site, path)
    for item in values.values():
        if item.variable.key:
            _set(tree, item)
    overrides: tuple[str, ...] = ()
    if section := _FOLD_SECTION[step]:
        if (name := _FOLD_VARIABLE[section]) in values:
            overrides = _add_folds(tree, section, values[name].value)
        else:
            tree[section]["folds"] = site[section]["folds"]
    if step == 6 and "FOLDS" in values:
        tree["distill"]["folds"] = list(values["FOLDS"].value)
    return tree, overrides


def _add_folds(tree: dict[str, Any], section: FoldSection, chosen: Sequence[int]) -> tuple[str, ...]:
    """Add a job's folds to those of the recipe. Returns the overrides that restrict the job to its own."""
    later = FOLD_SECTIONS[FOLD_SECTIONS.index(section) + 1 :]
    known = {fold for name in (section, *later) for fold in tree[name]["folds"] or ()}
    tree[section]["folds"] = sorted({*known, *chosen})
    return (f"{section}.folds={list(chosen)}", *(f"{name}.folds=null" for name in later))


def _teachers(
    step: int, values: Mapping[str, SetVariable], stored: dict[str, Any], site: dict[str, Any], path: Path
) -> dict[str, Any]:
    """The teachers to store: those selected in this step, and those it has started already."""
    every = site["models"]["teachers"] | stored["models"]["teachers"]
    selected = _selected_teachers(step, values, every)
    work = Workspace(path) if path.is_file() else None
    started = {name for name in stored["models"]["teachers"] if work and _has_started(work, step, name)}
    return {name: model for name, model in every.items() if name in selected or name in started}


def _selected_teachers(
    step: int, values: Mapping[str, SetVariable], teachers: Mapping[str, Any]
) -> list[str]:
    """The teachers selected by SKIP_<MODEL> or INFER_MODELS. Raises TiebreakError if there is none."""
    skipped = {item.model for name, item in values.items() if name.startswith("SKIP_") and item.value}
    wanted = values["INFER_MODELS"].value if "INFER_MODELS" in values else teachers
    names = {key_of(name).lower(): name for name in teachers}
    for name in wanted:
        if key_of(name).lower() not in names:
            raise TiebreakError(f"INFER_MODELS has {name!r}, no teacher here; {nearest(name, teachers)}")
    chosen = {names[key_of(name).lower()] for name in wanted}
    selected = [name for name in teachers if name in chosen and name not in skipped]
    if not selected:
        raise TiebreakError(f"step {step} is told to leave out every teacher: {', '.join(teachers)}")
    return selected


def _has_started(work: Workspace, step: int, teacher: str) -> bool:
    """True if a job has started on a teacher in this step."""
    return any(
        work.folder(task).exists()
        for task in work.tasks
        if task.step.number == step and task.teacher == teacher
    )


def _reserve_folders(job: Job, step: int) -> None:
    """Create the tasks' folders, so that the next job keeps this one's teachers in the recipe."""
    for task in job.tasks:
        if task.step.number == step:
            job.work.folder(task).mkdir(parents=True, exist_ok=True)


def _key(item: SetVariable) -> str:
    """The recipe's key that a variable sets, empty if none."""
    return item.variable.key.replace("<model>", item.model)


def _set(tree: dict[str, Any], item: SetVariable) -> None:
    """Set a variable's value at its key."""
    key = _key(item)
    value = list(item.value) if isinstance(item.value, tuple) else item.value
    if key == "compute.score_tokens":
        value *= tree["logits"]["max_tokens"]
    for name in tree["models"]["teachers"] if "*" in key else ("",):
        *parents, leaf = key.replace("*", name).split(".")
        section = tree
        for parent in parents:
            section = section[parent]
        section[leaf] = value


def _write_if_changed(path: Path, recipe: Recipe) -> None:
    """Write the recipe if it differs from the stored one."""
    if not path.is_file() or loader.load(path) != recipe:
        write_atomically(path, loader.dump(recipe))


def _select_tasks(step: int, selection: _Selection, work: Workspace) -> Iterator[Task]:
    """The selected tasks of the step, and the prerequisite steps' tasks."""
    for task in work.tasks:
        if task.step.is_prerequisite or (task.step.number == step and selection.includes(task)):
            yield task


def _selection(step: int, values: Mapping[str, SetVariable], recipe: Recipe) -> _Selection:
    """The tasks selected by a step's variables."""
    if step == 1 and "RUN_STAGE" in values:
        return _Selection(set(_stages(values["RUN_STAGE"].value, recipe)))
    if step not in (3, 4):
        return _Selection()
    teachers = set(_selected_teachers(step, values, recipe.models.teachers))
    if "INFER_TRAIN_SHARD_ID" not in values:
        return _Selection(teachers)
    return _Selection(teachers, _shard(values["INFER_TRAIN_SHARD_ID"].value, recipe.logits.shards))


def _shard(shard: int, shards: int) -> int:
    if shard >= shards:
        raise TiebreakError(f"INFER_TRAIN_SHARD_ID={shard}: the shards are 0 to {shards - 1}")
    return shard


def _stages(stages: Sequence[str], recipe: Recipe) -> Iterator[str | None]:
    """The models named by RUN_STAGE, None for the student: `gemma` is that if no teacher has that name."""
    models: dict[str, str | None] = {key_of(name).lower(): name for name in recipe.models.teachers}
    models["student"] = None
    models.setdefault("gemma", None)
    for stage in stages:
        if stage not in models:
            raise TiebreakError(f"RUN_STAGE has {stage!r}, no model here; {nearest(stage, models)}")
        yield models[stage]
