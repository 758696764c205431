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


@dataclass(frozen=True)
class Verified:
    """An artifact of a run, or a model folder: what is damaged in it, and what mends that."""

    name: str
    state: Literal["whole", "damaged", "missing"]
    problem: str = ""
    mend: str = ""


def verify(where: Path, overrides: Sequence[str] = ()) -> Iterator[Verified]:
    """Verify every artifact of a recipe, in order, or the files of a model folder.

    Raises TiebreakError for what is neither.
    """
    if recipe := recipe_at(where):
        yield from _artifacts(Workspace(recipe, tuple(overrides)))
    else:
        yield _model(where)


def _artifacts(work: Workspace) -> Iterator[Verified]:
    for task in work.tasks:
        manifest = work.manifest(task)
        if manifest is None:
            yield Verified(task.id, "missing")
        elif problem := artifacts.find_damage(work.folder(task), manifest):
            yield Verified(task.id, "damaged", problem, make_again(work, task))
        else:
            yield Verified(task.id, "whole")


def _model(folder: Path) -> Verified:
    from tiebreak.judge import package

    shipped = package.read(folder)
    if not shipped.files:
        raise TiebreakError(f"{folder / package.NAME} records no hashes; an older tiebreak wrote it")
    if problem := package.damage(shipped, folder):
        return Verified(str(folder), "damaged", problem, package.AGAIN)
    return Verified(str(folder), "whole")
