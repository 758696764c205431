"""Task graph of a recipe: nine steps in order, expanded over teachers and folds.

    votes, extra, preferences, test -> ingest -> split (2) -> rows with folds and a lockbox
    rows -> baseline, a model of word counts and features to compare the judge with
    preferences -> post_pretrain (1), for each teacher and the student
    each fold:  teach (3) -> score (4), for each teacher -> distill (5)
    average (6) -> quantize (7) -> predict (8) -> evaluate (9)

Step 2 comes before step 1 here: it drops preference pairs whose prompt is among the votes.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from tiebreak.errors import TiebreakError, nearest
from tiebreak.pipeline.step import Step
from tiebreak.pipeline.steps import (
    average,
    baseline,
    distill,
    evaluate,
    ingest,
    post_pretrain,
    predict,
    quantize,
    score,
    split,
    teach,
)
from tiebreak.recipe.models import Model
from tiebreak.recipe.schema import Recipe
from tiebreak.recipe.values import FoldSection, Slice

STEPS = (
    ingest.STEP,
    split.STEP,
    baseline.STEP,
    post_pretrain.STEP,
    teach.STEP,
    score.STEP,
    distill.STEP,
    average.STEP,
    quantize.STEP,
    predict.STEP,
    evaluate.STEP,
)
"""The steps, in order."""


@dataclass(frozen=True)
class Source:
    """An external input: a file, a folder, or (for models) a hub id."""

    location: str
    revision: str | None = None
    is_model: bool = False


Inputs = Mapping[str, tuple["Task | Source", ...]]


@dataclass(frozen=True)
class Task:
    """One task: a step, its settings and its inputs.

    teacher: the teacher that it trains or scores with; None for the student, and where no model is. fold and shard,
    from 0: those that it works on; None where there are none.
    """

    step: Step
    name: str
    settings: Slice
    inputs: Inputs
    teacher: str | None = None
    fold: int | None = None
    shard: int | None = None

    @cached_property
    def id(self) -> str:
        """The task's name for users: `teach/llama-fold0`."""
        return f"{self.step.name}/{self.name}"

    def upstream(self) -> Iterator["Task"]:
        """The tasks whose artifacts this task reads."""
        for group in self.inputs.values():
            yield from (item for item in group if isinstance(item, Task))


def tasks(recipe: Recipe) -> tuple[Task, ...]:
    """Every task of a recipe, in topological order."""
    ingested = _ingest(recipe)
    votes = Task(
        split.STEP,
        "votes",
        split.Settings(
            split=recipe.split, seed=recipe.seed if recipe.split.seed is None else recipe.split.seed
        ),
        {name: (task,) for name, task in ingested.items()},
    )
    baselines = _baseline(recipe, votes)
    baseline_input = {"baseline": baselines} if baselines else {}
    pretrained = _post_pretrain(recipe, votes)
    teachers = _teach(recipe, votes, pretrained)
    logits = _score(recipe, votes, teachers)
    students = _distill(recipe, votes, pretrained, logits)
    averaged = Task(
        average.STEP,
        "student",
        average.Settings(average=recipe.average, prompt=recipe.prompt, tta=recipe.tta),
        {"base": (_base(recipe.models.student),), "rows": (votes,), "students": students, **baseline_input},
    )
    quantized = Task(
        quantize.STEP,
        "student",
        quantize.Settings(quantize=recipe.quantize, prompt=recipe.prompt, seed=recipe.seed),
        {"model": (averaged,), "rows": (votes,)},
    )
    test = {"test": (ingested["test"],)} if "test" in ingested else {}
    predictions = tuple(
        Task(
            predict.STEP, name, predict.Settings(tta=recipe.tta), {"model": (model,), "rows": (votes,)} | test
        )
        for name, model in (("averaged", averaged), ("quantized", quantized))
    )
    report = Task(
        evaluate.STEP,
        "report",
        evaluate.Settings(name=recipe.name, evaluate=recipe.evaluate, seed=recipe.seed),
        {
            "rows": (votes,),
            "teachers": tuple(task for group in logits.values() for task in group),
            "students": students,
            "average": (averaged,),
            "averaged": predictions[:1],
            "quantized": predictions[1:],
            "model": (quantized,),
            **baseline_input,
        }
        | test
        | ({"solution": (Source(recipe.data.solution),)} if recipe.data.solution else {}),
    )
    return (
        *ingested.values(),
        votes,
        *pretrained.values(),
        *teachers.values(),
        *(task for group in logits.values() for task in group),
        *students,
        *baselines,  # late: it is long, waits for the votes alone, and fills what other tasks leave idle
        averaged,
        quantized,
        *predictions,
        report,
    )


def find(graph: tuple[Task, ...], task_id: str) -> Task:
    """Find a task by its id. Raises TiebreakError with the nearest valid one."""
    for task in graph:
        if task.id == task_id:
            return task
    raise TiebreakError(f"no task {task_id!r}; {nearest(task_id, (task.id for task in graph))}")


def fold_sections(steps: Sequence[str]) -> list[FoldSection]:
    """The sections of the recipe that name the folds of these steps."""
    return [step.fold_section for step in STEPS if step.name in steps and step.fold_section]


def _base(model: Model) -> Source:
    return Source(model.base, model.revision, is_model=True)


def _baseline(recipe: Recipe, votes: Task) -> tuple[Task, ...]:
    if not recipe.baseline.enabled:
        return ()
    return (Task(baseline.STEP, "lexical", baseline.Settings(), {"rows": (votes,)}),)


def _ingest(recipe: Recipe) -> dict[str, Task]:
    return {
        role: Task(
            ingest.STEP,
            role,
            ingest.Settings(
                role=role,
                max_rejected_share=recipe.data.max_rejected_share,
                incomplete_files=recipe.data.incomplete_files,
                pairs_per_prompt=recipe.data.pairs_per_prompt,
                columns=recipe.data.columns,
                values=recipe.data.values,
            ),
            {"files": tuple(Source(path) for path in files)},
        )
        for role, files in recipe.data.files().items()
    }


def _post_pretrain(recipe: Recipe, votes: Task) -> dict[str, Task]:
    if not (recipe.post_pretrain.enabled and recipe.data.preferences):
        return {}
    models = recipe.models.teachers | {"student": recipe.models.student}
    return {
        name: Task(
            post_pretrain.STEP,
            name,
            post_pretrain.Settings(
                precision=model.precision,
                lora=model.lora,
                prompt=recipe.prompt,
                subset_votes=recipe.post_pretrain.subset_votes,
                training=recipe.post_pretrain.training,
                seed=recipe.seed,
            ),
            {"base": (_base(model),), "rows": (votes,)},
            teacher=None if name == "student" else name,
        )
        for name, model in models.items()
    }


def _teach(recipe: Recipe, votes: Task, pretrained: dict[str, Task]) -> dict[tuple[str, int], Task]:
    return {
        (name, fold): Task(
            teach.STEP,
            f"{name}-fold{fold}",
            teach.Settings(
                fold=fold,
                precision=model.precision,
                lora=model.lora,
                prompt=recipe.prompt,
                subset_votes=recipe.teach.subset_votes,
                training=recipe.teach.training,
                seed=recipe.seed,
            ),
            {"base": (_base(model),), "rows": (votes,), **_initial_adapter(pretrained, name)},
            teacher=name,
            fold=fold,
        )
        for name, model in recipe.models.teachers.items()
        for fold in recipe.folds("teach")
    }


def _score(
    recipe: Recipe, votes: Task, teachers: dict[tuple[str, int], Task]
) -> dict[tuple[str, int], tuple[Task, ...]]:
    shards = recipe.logits.shards
    return {
        (name, fold): tuple(
            Task(
                score.STEP,
                f"{name}-fold{fold}-{shard + 1}of{shards}",
                score.Settings(
                    teacher=name,
                    fold=fold,
                    shard=shard,
                    shards=shards,
                    subset_votes=recipe.logits.subset_votes_of.get(name, recipe.logits.subset_votes),
                    taught_votes=recipe.teach.subset_votes,
                    max_tokens=recipe.logits.max_tokens,
                    precision=model.precision,
                    prompt=recipe.prompt,
                    seed=recipe.seed,
                ),
                {"base": (_base(model),), "adapter": (teachers[name, fold],), "rows": (votes,)},
                teacher=name,
                fold=fold,
                shard=shard,
            )
            for shard in range(shards)
        )
        for name, model in recipe.models.teachers.items()
        for fold in recipe.folds("logits")
    }


def _distill(
    recipe: Recipe,
    votes: Task,
    pretrained: dict[str, Task],
    logits: dict[tuple[str, int], tuple[Task, ...]],
) -> tuple[Task, ...]:
    model = recipe.models.student
    every_logit = tuple(task for group in logits.values() for task in group)
    return tuple(
        Task(
            distill.STEP,
            "all" if fold is None else f"fold{fold}",
            distill.Settings(
                fold=fold,
                precision=model.precision,
                lora=model.lora,
                prompt=recipe.prompt,
                teachers=tuple(sorted(recipe.models.teachers)),
                soft_labels=recipe.logits.soft_labels,
                distill=recipe.distill.model_copy(update={"folds": None}),
                tta=recipe.tta,
                seed=recipe.seed,
            ),
            {
                "base": (_base(model),),
                "rows": (votes,),
                "logits": every_logit
                if recipe.logits.soft_labels == "out_of_fold"
                else tuple(task for (_, f), group in logits.items() if f == fold for task in group),
                **_initial_adapter(pretrained, "student"),
            },
            fold=fold,
        )
        for fold in (recipe.folds("distill") if recipe.distill.students == "folds" else (None,))
    )


def _initial_adapter(pretrained: dict[str, Task], model: str) -> Inputs:
    """The adapters of post-pretraining as initial weights, if it ran."""
    return {"start": (pretrained[model],)} if model in pretrained else {}
