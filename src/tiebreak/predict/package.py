"""What ships beside the weights: `tiebreak.json` says how the model's input and output are treated."""

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tiebreak.errors import TiebreakError
from tiebreak.recipe import Prompt, Tta

NAME = "tiebreak.json"


class Package(BaseModel):
    """The template, the token budget, the calibration, the rules and where the model came from."""

    model_config = ConfigDict(frozen=True)

    format: int = Field(1, description="version of this file's layout")
    prompt: Prompt
    tta: Tta
    calibration: dict[str, Any] = Field(
        description='{"temperature": T}, or {"coef": W, "intercept": b}: see evaluate.calibration'
    )
    certain_from: float | None = Field(
        None, description="where tta.share < 1: a vote this certain in one order is not shown in the other"
    )
    rules: dict[str, Any] | None = Field(
        None, description="what votes without two different answers were given"
    )
    provenance: dict[str, Any] = {}


def read(folder: Path) -> Package:
    """The package of a model folder. Raises TiebreakError if the folder is missing or was not made here."""
    if not folder.is_dir():
        raise TiebreakError(f"no model folder at {folder}; `tiebreak run` makes one and prints its path")
    try:
        return Package.model_validate_json((folder / NAME).read_bytes())
    except FileNotFoundError:
        raise TiebreakError(
            f"{folder} has no {NAME}, so it is not a model that tiebreak made. Valid: the folder `model` "
            "that `tiebreak run` prints at its end"
        ) from None
    except ValidationError as error:
        raise TiebreakError(f"{folder / NAME} is damaged: {error.errors()[0]['msg']}") from None


def write(package: Package, folder: Path) -> None:
    """Write tiebreak.json into a model folder."""
    text = json.dumps(package.model_dump(mode="json"), indent=2) + "\n"
    (folder / NAME).write_text(text, encoding="utf-8")
