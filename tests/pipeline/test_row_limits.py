"""Rows longer than a model has positions, by the recipe alone."""

import json
import shutil
from pathlib import Path

import pytest
from tiny_models import base

from tiebreak.engine.workspace import Workspace
from tiebreak.errors import TiebreakError
from tiebreak.pipeline.graph import Source

RECIPE = """
name: judge
data: {votes: [votes.csv], preferences: [pairs.csv]}
models: {teachers: {llama: {base: llama}}, student: {base: qwen2}}
split: {count: 2}
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    for family in ("llama", "qwen2"):
        shutil.copytree(base(family), tmp_path / family)
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    return tmp_path / "recipe.yaml"


def limited(recipe: Path, family: str, positions: int) -> None:
    file = recipe.parent / family / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"max_position_embeddings": positions}))


def look(recipe: Path, model: str, *sets: str) -> None:
    Workspace(recipe, sets).fingerprint(Source(model, None, is_model=True))


def test_rows_as_long_as_the_positions_pass(recipe: Path) -> None:
    limited(recipe, "llama", 1024)
    limited(recipe, "qwen2", 2000)
    look(recipe, "llama")
    look(recipe, "qwen2")


def test_the_keys_of_a_model_are_named_with_their_fix(recipe: Path) -> None:
    limited(recipe, "llama", 1000)
    limited(recipe, "qwen2", 1999)
    with pytest.raises(TiebreakError) as teacher:
        look(recipe, "llama")
    assert str(teacher.value) == (
        "llama has 1000 positions, and rows may be longer: post_pretrain.training.max_tokens is 1024, "
        "teach.training.max_tokens is 1024, logits.max_tokens is 1024; use --set post_pretrain.training.max_tokens=1000 "
        "--set teach.training.max_tokens=1000 --set logits.max_tokens=1000, or a model with more"
    )
    with pytest.raises(
        TiebreakError, match=r"longer: tta.max_tokens is 2000; use --set tta.max_tokens=1999, or"
    ):
        look(recipe, "qwen2")
    look(recipe, "qwen2", "tta.max_tokens=1999")
