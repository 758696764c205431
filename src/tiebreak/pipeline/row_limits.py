"""Rows that a recipe would make longer than one of its models has positions."""

from collections.abc import Iterator, Mapping
from typing import Any

from tiebreak.errors import TiebreakError
from tiebreak.model.families import most_positions
from tiebreak.recipe.models import Model
from tiebreak.recipe.schema import Recipe


def require(recipe: Recipe, base: str, config: Mapping[str, Any]) -> None:
    """Raise TiebreakError for a model, by its base and config.json, that has fewer positions than a row of it may have tokens."""
    most = most_positions(config)
    if most is None:
        return
    longer = {key: tokens for key, tokens in _longest_rows(recipe, base) if tokens > most}
    if longer:
        keys = ", ".join(f"{key} is {tokens}" for key, tokens in longer.items())
        fix = " ".join(f"--set {key}={most}" for key in longer)
        raise TiebreakError(
            f"{base} has {most} positions, and rows may be longer: {keys}; use {fix}, or a model with more"
        )


def _longest_rows(recipe: Recipe, base: str) -> Iterator[tuple[str, int]]:
    """The keys that say how long the rows of a model may be, with their values."""
    models = recipe.models

    def uses(model: Model) -> bool:
        return model.base == base

    teaches, learns = any(map(uses, models.teachers.values())), uses(models.student)
    if recipe.post_pretrain.enabled and recipe.data.preferences:
        yield "post_pretrain.training.max_tokens", recipe.post_pretrain.training.max_tokens
    if teaches:
        yield "teach.training.max_tokens", recipe.teach.training.max_tokens
        yield "logits.max_tokens", recipe.logits.max_tokens
    if learns:
        yield "distill.training.max_tokens", recipe.distill.training.max_tokens
        yield "quantize.max_tokens", recipe.quantize.max_tokens
        yield "tta.max_tokens", recipe.tta.max_tokens
