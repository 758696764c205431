"""The nine scripts of slurm/: a step over a scratch folder, whose recipe remembers what each was told.

<SCRATCH_BASE>/recipe.yaml begins as the site's recipe. Each step adds what its variables change before it
works, so that FOLDS=0 given to step 5 is still known at step 6, and `tiebreak run <SCRATCH_BASE>` goes on
with what the scripts began. Folds and teachers add up over jobs: TEACHER_FOLDS=0 and TEACHER_FOLDS=1 may be
two jobs.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tiebreak import recipe_file
from tiebreak.environment import Given, given, key_of
from tiebreak.errors import TiebreakError, nearest
from tiebreak.execute.artifacts import try_lock, write_atomically
from tiebreak.execute.plan import ALWAYS
from tiebreak.execute.start import RECIPE
from tiebreak.execute.workspace import Workspace, anchored
from tiebreak.output import new_folder
from tiebreak.pipeline import Task, teacher_of
from tiebreak.recipe import FOLD_STEPS, FoldStep, Recipe

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
STEP_OF = {
    1: "post_pretrain",
    2: "split",
    3: "teach",
    4: "score",
    5: "distill",
    6: "average",
    7: "quantize",
    8: "predict",
    9: "evaluate",
}
REMEMBERED = ".scratch_base"
_PUBLISHED = ("llama", "qwen")
_FOLDS_OF: dict[int, tuple[str, FoldStep]] = {
    3: ("TEACHER_FOLDS", "teach"),
    4: ("INFER_FOLDS", "logits"),
    5: ("FOLDS", "distill"),
}


@dataclass(frozen=True)
class Job:
    """What one script has to do: these tasks, under the scratch folder's recipe."""

    work: Workspace
    tasks: tuple[Task, ...]


def prepare(
    step: int, environment: Mapping[str, str], site_recipe: Path, folder: Path, sets: Sequence[str] = ()
) -> Job:
    """Bring the scratch folder's recipe up to date with a step's variables, and choose the step's tasks.

    folder: where the scripts are. sets: further changes of the recipe, which win over the variables; locations start
    at the site's recipe. Raises TiebreakError for a variable, a fold or a model that cannot be.
    """
    base = scratch_base(environment, folder)
    new_folder(base)
    with _alone(base):
        path = base / RECIPE
        site = None if path.is_file() and not site_recipe.is_file() else Workspace(site_recipe).anchored()
        kept = recipe_file.load(path).model_dump(mode="json") if path.is_file() else _begin(site)
        values = given(step, environment, _models(site or kept, kept))
        tree, overrides = _told(step, values, kept, site or kept, path)
        origin = f"{path}, with this step's variables"
        recipe = recipe_file.parse(tree, origin, sets)
        if sets:
            tree = anchored(recipe, site_recipe.resolve().parent)
            recipe = recipe_file.parse(tree, origin)
        names = _names(step, values, recipe_file.parse(tree, origin, overrides))
        _keep(path, recipe)  # from here on nothing is refused
        _remember(base, environment, folder)
        work = Workspace(path, overrides)
        job = Job(work, tuple(_chosen(step, names, work)))
        if step in (3, 4):
            _claim(job, STEP_OF[step])
    return job


def scratch_base(environment: Mapping[str, str], folder: Path) -> Path:
    """SCRATCH_BASE, or that of this job's first start, of the last job before it, or the last one given here.

    Without any it is `scratch` beside the scripts.
    """
    text = environment.get("SCRATCH_BASE", "").strip() or _remembered(environment, folder)
    return (folder / Path(text or "scratch").expanduser()).resolve()


def _remember(base: Path, environment: Mapping[str, str], folder: Path) -> None:
    """Keep the scratch folder for this job's next start, and for later jobs."""
    if environment.get("SCRATCH_BASE", "").strip():
        write_atomically(folder / REMEMBERED, f"{base}\n")
    if number := _job_number(environment):
        write_atomically(folder / f"{REMEMBERED}-{number}", f"{base}\n")


def _remembered(environment: Mapping[str, str], folder: Path) -> str:
    """What this job or the last before it kept: another series may begin here while this one is in the queue."""
    number = _job_number(environment)
    ends = (path.name.rpartition("-")[2] for path in folder.glob(f"{REMEMBERED}-*"))
    last = max((int(end) for end in ends if end.isdigit() and int(end) <= number), default=None)
    kept = folder / (f"{REMEMBERED}-{last}" if last else REMEMBERED)
    return kept.read_text(encoding="utf-8").strip() if kept.is_file() else ""


def _job_number(environment: Mapping[str, str]) -> int:
    """The number of the Slurm job that this is, 0 outside Slurm."""
    return int(environment.get("SLURM_ARRAY_JOB_ID") or environment.get("SLURM_JOB_ID") or 0)


@contextmanager
def _alone(base: Path) -> Iterator[None]:
    """Let one job at a time change the scratch folder's recipe."""
    with (base / f".{RECIPE}.lock").open("w") as file:
        while not try_lock(file.fileno()):
            time.sleep(0.1)
        yield


def _begin(site: dict[str, Any] | None) -> dict[str, Any]:
    assert site is not None
    return site | {"run_dir": "run"}


def _models(site: dict[str, Any], kept: dict[str, Any]) -> dict[str, Any]:
    """The names that <MODEL> may have."""
    return dict.fromkeys((*site["models"]["teachers"], *kept["models"]["teachers"], *_PUBLISHED))


def _told(
    step: int, values: Mapping[str, Given], kept: dict[str, Any], site: dict[str, Any], path: Path
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The recipe to keep after a step was told `values`, and what holds for this job only."""
    tree: dict[str, Any] = yaml.safe_load(yaml.safe_dump(kept))
    if step in (3, 4):
        tree["models"]["teachers"] = _teachers(step, values, kept, site, path)
    for item in values.values():
        if item.variable.key:
            _set(tree, item)
    overrides: tuple[str, ...] = ()
    if step in _FOLDS_OF:
        name, section = _FOLDS_OF[step]
        if name in values:
            overrides = _add_folds(tree, section, values[name].value)
        else:
            tree[section]["folds"] = site[section]["folds"]
    if step == 6 and "FOLDS" in values:
        tree["distill"]["folds"] = list(values["FOLDS"].value)
    return tree, overrides


def _add_folds(tree: dict[str, Any], section: FoldStep, chosen: Sequence[int]) -> tuple[str, ...]:
    """Add a job's folds to those that the recipe keeps. Returns what confines the job itself to them."""
    later = FOLD_STEPS[FOLD_STEPS.index(section) + 1 :]
    known = {fold for name in (section, *later) for fold in tree[name]["folds"] or ()}
    tree[section]["folds"] = sorted({*known, *chosen})
    return (f"{section}.folds={list(chosen)}", *(f"{name}.folds=null" for name in later))


def _teachers(
    step: int, values: Mapping[str, Given], kept: dict[str, Any], site: dict[str, Any], path: Path
) -> dict[str, Any]:
    """The teachers to keep: those that this step takes, and others for which it has something already."""
    every = site["models"]["teachers"] | kept["models"]["teachers"]
    taken = _taken(step, values, every)
    work = Workspace(path) if path.is_file() else None
    begun = {name for name in kept["models"]["teachers"] if work and _begun(work, STEP_OF[step], name)}
    return {name: model for name, model in every.items() if name in taken or name in begun}


def _taken(step: int, values: Mapping[str, Given], teachers: Mapping[str, Any]) -> list[str]:
    """The teachers that SKIP_<MODEL> or INFER_MODELS leave. Raises TiebreakError if that is none."""
    skipped = {item.model for name, item in values.items() if name.startswith("SKIP_") and item.value}
    wanted = values["INFER_MODELS"].value if "INFER_MODELS" in values else teachers
    names = {key_of(name).lower(): name for name in teachers}
    for name in wanted:
        if key_of(name).lower() not in names:
            raise TiebreakError(f"INFER_MODELS has {name!r}, no teacher here; {nearest(name, teachers)}")
    chosen = {names[key_of(name).lower()] for name in wanted}
    taken = [name for name in teachers if name in chosen and name not in skipped]
    if not taken:
        raise TiebreakError(f"step {step} is told to leave out every teacher: {', '.join(teachers)}")
    return taken


def _begun(work: Workspace, step: str, teacher: str) -> bool:
    """Has a job claimed, or made, something of a teacher in this step?"""
    return any(
        work.folder(task).exists()
        for task in work.tasks
        if task.step_name == step and teacher_of(task) == teacher
    )


def _claim(job: Job, step: str) -> None:
    """Keep the next job from leaving this one's teachers out of the recipe before their work begins."""
    for task in job.tasks:
        if task.step_name == step:
            job.work.folder(task).mkdir(parents=True, exist_ok=True)


def _set(tree: dict[str, Any], item: Given) -> None:
    """Put a variable's value where its key says."""
    key = item.variable.key.replace("<model>", item.model)
    value = list(item.value) if isinstance(item.value, tuple) else item.value
    if key == "compute.score_tokens":
        value *= tree["logits"]["max_tokens"]
    for name in tree["models"]["teachers"] if "*" in key else ("",):
        *parents, leaf = key.replace("*", name).split(".")
        section = tree
        for parent in parents:
            section = section[parent]
        section[leaf] = value


def _keep(path: Path, recipe: Recipe) -> None:
    """Write the recipe if it differs from what is there."""
    if not path.is_file() or recipe_file.load(path) != recipe:
        write_atomically(path, recipe_file.dump(recipe))


def _chosen(step: int, names: set[str], work: Workspace) -> Iterator[Task]:
    """The step's tasks of these names, or all, and those that every step makes if they are missing."""
    for task in work.tasks:
        if task.step_name in ALWAYS or (
            task.step_name == STEP_OF[step] and (not names or task.name in names)
        ):
            yield task


def _names(step: int, values: Mapping[str, Given], recipe: Recipe) -> set[str]:
    """The names of the tasks that a step's variables choose; none for all."""
    if step == 1 and "RUN_STAGE" in values:
        return set(_stages(values["RUN_STAGE"].value, recipe))
    if step not in (3, 4):
        return set()
    teachers = _taken(step, values, recipe.models.teachers)
    if step == 3:
        return {f"{name}-fold{fold}" for name in teachers for fold in recipe.folds("teach")}
    shards = range(recipe.logits.shards)
    if "INFER_TRAIN_SHARD_ID" in values:
        shards = _one(values["INFER_TRAIN_SHARD_ID"].value, recipe.logits.shards)
    folds = recipe.folds("logits")
    return {
        f"{name}-fold{fold}-{shard + 1}of{recipe.logits.shards}"
        for name in teachers
        for fold in folds
        for shard in shards
    }


def _one(shard: int, shards: int) -> range:
    if shard >= shards:
        raise TiebreakError(f"INFER_TRAIN_SHARD_ID={shard}: the shards are 0 to {shards - 1}")
    return range(shard, shard + 1)


def _stages(stages: Sequence[str], recipe: Recipe) -> Iterator[str]:
    """The models that RUN_STAGE means: `gemma` is the student where no teacher has that name."""
    models = {key_of(name).lower(): name for name in (*recipe.models.teachers, "student")}
    models.setdefault("gemma", "student")
    for stage in stages:
        if stage not in models:
            raise TiebreakError(f"RUN_STAGE has {stage!r}, no model here; {nearest(stage, models)}")
        yield models[stage]
