"""`tiebreak verify`: every file of a run or a model against its recorded hash, which takes reading it all."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tiebreak.commands.outputs import recipe_at
from tiebreak.engine import artifacts
from tiebreak.engine.task_runner import make_again
from tiebreak.engine.workspace import Workspace
from tiebreak.errors import TiebreakError
from tiebreak.recipe.basics import RECIPE


@dataclass(frozen=True)
class Verified:
    """An artifact of a run, or a model folder: what is damaged in it, and what mends that."""

    name: str
    state: Literal["whole", "damaged", "missing"]
    problem: str = ""
    mend: str = ""


def verify(where: Path, overrides: Sequence[str] = ()) -> Iterator[Verified]:
    """Verify every artifact of a recipe or a run's folder, in order, or the files of a model folder.

    A plan then knows of the damage, so that a run mends it. Raises TiebreakError for what is neither.
    """
    if recipe := recipe_at(where) or _recipe_of_run(where):
        yield from _artifacts(Workspace(recipe, tuple(overrides)))
    else:
        yield _model(where)


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
        folder, manifest = work.folder(task), work.manifest(task)
        if manifest is None and (folder / artifacts.MANIFEST).exists():
            problem = f"{artifacts.MANIFEST} is damaged: it cannot be read"
            yield Verified(task.id, "damaged", problem, make_again(work))
        elif manifest is None:
            yield Verified(task.id, "missing", "it is not made", make_again(work))
        elif problem := artifacts.find_damage(folder, manifest) or "":
            artifacts.distrust(folder, manifest)
            yield Verified(task.id, "damaged", problem, make_again(work))
        else:
            yield Verified(task.id, "whole")


def _model(folder: Path) -> Verified:
    from tiebreak.judge import package

    shipped = package.read(folder)
    if not shipped.files:
        raise TiebreakError(f"{folder / package.NAME} records no hashes; an older tiebreak wrote it")
    if problem := package.damage(shipped, folder):
        return Verified(str(folder), "damaged", problem, package.again(folder))
    return Verified(str(folder), "whole")
