"""What `tiebreak check` looks at: files of votes, or the data of a recipe."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tiebreak.execute.workspace import Workspace
from tiebreak.model import hub
from tiebreak.pipeline import Source

if TYPE_CHECKING:
    from tiebreak.data.card import Card

ROLES = ("votes", "extra", "preferences", "unlabelled", "test")


def check_files(files: Mapping[str, Sequence[Path]], tokenizer: Path | None) -> "Card":
    """The data card of files by their role; tokens are counted with a model folder's tokenizer, or estimated.

    Raises TiebreakError for files that cannot be read.
    """
    from tiebreak.data.card import check

    counting = None if tokenizer is None else hub.tokenizer(str(tokenizer))
    return check({role: paths for role, paths in files.items() if paths}, counting)  # type: ignore[misc]


def check_recipe(work: Workspace) -> "Card":
    """The data card of a recipe: its files, its prompt settings and budgets, its student's tokenizer."""
    from tiebreak.data.card import check

    recipe = work.recipe
    files = {
        role: [work.resolve(Source(location)) for location in getattr(recipe.data, role)] for role in ROLES
    }
    base = work.resolve(Source(recipe.models.student.base, recipe.models.student.revision, is_model=True))
    budgets = sorted({recipe.teach.training.max_tokens, recipe.tta.max_tokens})
    named = {role: paths for role, paths in files.items() if paths}
    return check(named, hub.tokenizer(str(base)), budgets, recipe.prompt)  # type: ignore[arg-type]
