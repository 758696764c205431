"""A tiny judge for the plug-ins."""

from collections.abc import Callable
from pathlib import Path

import pytest
from shipped_judge import ship

import tiebreak
from tiebreak.judge import package
from tiebreak.judge.judge import Judge
from tiebreak.recipe.schema import Prompt


@pytest.fixture(scope="session")
def folder(once: Callable[..., Path]) -> Path:
    """The folder of a tiny judge whose answers are random, but sure of themselves."""

    def make(place: Path) -> None:
        made = package.read(ship(place / "model", seed=3))
        package.write(made.model_copy(update={"prompt": Prompt(prompt_tokens=40)}), place / "model")

    return once("plugins", make) / "model"


@pytest.fixture(scope="session")
def judge(folder: Path) -> Judge:
    return tiebreak.load(folder, device="cpu")
