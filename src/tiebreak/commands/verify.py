"""`tiebreak verify`: every file of a run or a model against its recorded hash, which takes reading it all."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tiebreak.commands.outputs import model_folder, recipe_at
from tiebreak.engine import artifacts
from tiebreak.engine.planner import state
from tiebreak.engine.task_runner import make_again
from tiebreak.engine.workspace import Workspace
from tiebreak.errors import TiebreakError
from tiebreak.pipeline.graph import Task
from tiebreak.recipe.basics import RECIPE


@dataclass(frozen=True)
class Verified:
    """An artifact of a run, or a model folder: what is damaged in it or makes it stale, and what mends that."""

    name: str
    state: Literal["whole", "damaged", "stale", "missing"]
    problem: str = ""
    mend: str = ""


def verify(where: Path, overrides: Sequence[str] = ()) -> Iterator[Verified]:
    """Verify every artifact of a recipe or a run's folder, in order, or the files of a model folder or a model of the hub.

    Of a task whose artifacts are all outdated, as by a newer version of its step, those are read; outdated ones beside a current
    one are told of if they are damaged. A plan then knows of the damage, so that a run mends it. Raises TiebreakError for what
    is neither.
    """
    if recipe := recipe_at(where) or _recipe_of_run(where):
        yield from _artifacts(Workspace(recipe, tuple(overrides)))
    else:
        yield _model(model_folder(where))


def _recipe_of_run(folder: Path) -> Path | None:
    """The recipe beside a run's folder; None for a folder that has no artifacts."""
    if not (folder / "artifacts").is_dir():
        return None
    recipe = folder.resolve().parent / RECIPE
    if not recipe.is_file():
        raise TiebreakError(f"{folder} is a run, but its recipe is not beside it: tiebreak verify RECIPE")
    return recipe


def _artifacts(work: Workspace) -> Iterator[Verified]:
    for task in work.tasks:
        current, made = work.folder(task), _made(work, task)
        others = [folder for folder in made if folder != current] if current in made else []
        problem = next(filter(None, map(_damage, [current] if others else made)), "")
        found = state(work, task)
        if problem:
            yield Verified(task.id, "damaged", problem, make_again(work))
        elif found.status == "fresh":
            yield Verified(task.id, "whole")
        else:
            yield Verified(task.id, found.status, str(found.reason), make_again(work))
        for folder in others:
            if problem := _damage(folder):
                name = f"{task.id}, outdated, in {folder.name}"
                yield Verified(name, "damaged", problem, f"delete {folder}, which nothing here needs")


def _made(work: Workspace, task: Task) -> list[Path]:
    """The folders of a task's finished artifacts, of this plan and outdated ones."""
    every = work.step_folder(task).glob(f"{task.name}-????????")
    return sorted(folder for folder in every if (folder / artifacts.MANIFEST).exists())


def _damage(folder: Path) -> str:
    """What is damaged in an artifact, empty if nothing is. Plans then know."""
    manifest = artifacts.read_manifest(folder)
    if manifest is None:
        return f"{artifacts.MANIFEST} is damaged: it cannot be read"
    problem = artifacts.find_damage(folder, manifest) or ""
    if problem:
        artifacts.distrust(folder, manifest)
    return problem


def _model(folder: Path) -> Verified:
    from tiebreak.judge import package

    shipped = package.read(folder)
    if not shipped.files:
        raise TiebreakError(f"{folder / package.NAME} records no hashes; an older tiebreak wrote it")
    if problem := package.damage(shipped, folder):
        return Verified(str(folder), "damaged", problem, package.again(folder))
    return Verified(str(folder), "whole")
