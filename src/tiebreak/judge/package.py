"""The package file `tiebreak.json`, shipped beside the weights: treatment of the model's input and output."""

import json
import math
import shlex
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from tiebreak import json_files
from tiebreak.errors import TiebreakError
from tiebreak.hashes import file_digest
from tiebreak.model import hub
from tiebreak.output import write_atomically
from tiebreak.recipe.basics import RECIPE
from tiebreak.recipe.problems import problems
from tiebreak.recipe.schema import Prompt, Tta
from tiebreak.regular_file import require_regular
from tiebreak.seen import MANIFEST
from tiebreak.stats import blend
from tiebreak.stats.calibration import is_symmetric_map

NAME = "tiebreak.json"
AGAIN = (
    "copy the whole folder again (of a run, `tiebreak verify RECIPE` says how to make it again). If you changed the "
    f"file, take it out of `files` in {NAME}"
)


class Package(BaseModel):
    """Template, token budget, calibration, rules and provenance of a model."""

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    format: Literal[1] = Field(1, description="version of this file's layout")
    prompt: Prompt
    tta: Tta
    calibration: dict[str, Any] = Field(
        description='{"temperature": T}, or {"coef": W, "intercept": b}: see stats.calibration'
    )
    certain_from: float | None = Field(
        None, description="where tta.share < 1: a vote this certain in one order is not shown in the other"
    )
    rules: dict[str, Any] | None = Field(
        None, description="what votes without two different answers were given"
    )
    blend: dict[str, Any] | None = Field(
        None,
        description="how the calibrated judge is blended with the folder's baseline.safetensors",
    )
    guarantees: dict[str, Any] | None = Field(
        None, description="counts of unseen voters that thresholds are fitted on: see stats.guarantees"
    )
    files: dict[str, str] = Field({}, description="SHA-256 of every other file that a model is loaded from")
    provenance: dict[str, Any] = {}

    @field_validator("files")
    @classmethod
    def _check_files(cls, files: dict[str, str]) -> dict[str, str]:
        if outside := [name for name in files if Path(name).name != name or name == ".." or "\0" in name]:
            raise ValueError(f"{outside[0]!r} is no file of the folder")
        return files

    @field_validator("calibration")
    @classmethod
    def _check_calibration(cls, state: dict[str, Any]) -> dict[str, Any]:
        match state:
            case {"temperature": float() | int() as temperature} if temperature is not True:
                usable = 1e-3 <= temperature <= 1e3
            case {"coef": _, "intercept": _}:
                usable = is_symmetric_map(state["coef"], state["intercept"])
            case _:
                usable = False
        if not usable:
            raise ValueError(f"{state} is no calibration")
        return state

    @field_validator("rules")
    @classmethod
    def _check_rules(cls, state: dict[str, Any] | None) -> dict[str, Any] | None:
        from tiebreak.judge.rules import Rules

        if state is not None:
            try:
                rules = Rules.from_json(state)
                usable = rules.counts_.shape == (5, 3) and 0 < rules.strength < math.inf
                usable = usable and bool((rules.counts_ >= 0).all()) and math.isfinite(rules.counts_.sum())
            except (LookupError, TypeError, ValueError, OverflowError):
                usable = False
            if not usable:
                raise ValueError(f"{state} are no rules")
        return state

    @field_validator("blend")
    @classmethod
    def _check_blend(cls, state: dict[str, Any] | None) -> dict[str, Any] | None:
        if state is not None:
            try:
                blend.from_json(state)
            except (KeyError, TypeError, ValueError, OverflowError):
                raise ValueError(f"{state} is no blend") from None
        return state

    @field_validator("guarantees")
    @classmethod
    def _check_guarantees(cls, state: dict[str, Any] | None) -> dict[str, Any] | None:
        from tiebreak.stats.guarantees import Guarantees

        if state is not None:
            try:
                Guarantees.from_json(state)
            except (KeyError, TypeError, ValueError, OverflowError):
                raise ValueError("guarantees are no counts of unseen voters") from None
        return state


def read(folder: Path) -> Package:
    """The package of a model folder. Raises TiebreakError if the folder is missing or was not made here."""
    if not folder.is_dir():
        raise TiebreakError(f"no model folder at {folder}; `tiebreak run` makes one and prints its path")
    require_regular(folder / NAME, AGAIN)
    if not (folder / NAME).exists():
        raise TiebreakError(
            f"{folder} has no {NAME}, so it is not a model that tiebreak made. Valid: the folder `model` "
            "that `tiebreak run` prints at its end"
        )
    try:
        return Package.model_validate_json(json_files.checked((folder / NAME).read_bytes()))
    except OSError as error:
        raise TiebreakError(f"{folder / NAME} cannot be read: {error.strerror}; {AGAIN}") from None
    except ValidationError as error:
        problem = next(problems(error, _tree(folder / NAME), Package))
        raise TiebreakError(f"{folder / NAME} is damaged: {problem}; {again(folder)}") from None
    except ValueError as error:
        raise TiebreakError(f"{folder / NAME} is damaged: {error}; {again(folder)}") from None


def _tree(file: Path) -> Any:
    """What a file holds that could not be read as a package; None if it is no JSON."""
    try:
        return json.loads(file.read_bytes())
    except (ValueError, RecursionError):
        return None


def again(folder: Path) -> str:
    """How to get a model folder anew: the command for one in a run whose recipe is found, else words."""
    if hub.cache() in folder.parents:
        return (
            f"remove this copy of the hub's, {folder.parents[1]}, and load it again; if that is the same, the hub's is damaged: whoever "
            "pushed it can push it again"
        )
    recipe = recipe_of(folder)
    if recipe is None:
        return AGAIN
    place = shlex.quote(str(recipe))
    return f"make it anew with: tiebreak verify {place}; tiebreak run {place}"


def recipe_of(folder: Path) -> Path | None:
    """The recipe of the run that a model folder lies in; None for one that was copied out."""
    here = folder.resolve()
    recipe = next((parent / RECIPE for parent in here.parents if (parent / RECIPE).is_file()), None)
    return recipe if (here.parent / MANIFEST).is_file() else None


def damage(package: Package, folder: Path) -> str | None:
    """Check a model folder against the hashes of its package, reading all of it; the first problem or None."""
    for name, expected in package.files.items():
        if not (folder / name).is_file():
            return f"it has no {name}"
        if file_digest(folder / name) != expected:
            return f"the content of {name} is not what was written"
    return None


def write(package: Package, folder: Path) -> None:
    """Write tiebreak.json into a model folder, with the hashes of what lies there."""
    files = {path.name: file_digest(path) for path in sorted(folder.iterdir()) if path.name != NAME}
    package = package.model_copy(update={"files": files})
    text = json.dumps(package.model_dump(mode="json"), indent=2) + "\n"
    write_atomically(folder / NAME, text)
