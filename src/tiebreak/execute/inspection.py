"""What `tiebreak check` looks at: files of votes, or the data of a recipe."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from tiebreak.errors import TiebreakError
from tiebreak.execute.workspace import Workspace
from tiebreak.model import hub
from tiebreak.pipeline import Source

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

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
    """The data card of a recipe: its files, its prompt settings and budgets.

    Tokens are the student's, or estimated where its tokenizer cannot be had, as the pre-flight says.
    """
    from tiebreak.data.card import check

    recipe = work.recipe
    files = {
        role: [work.resolve(Source(location)) for location in getattr(recipe.data, role)] for role in ROLES
    }
    budgets = sorted({recipe.teach.training.max_tokens, recipe.tta.max_tokens})
    named = {role: paths for role, paths in files.items() if paths}
    return check(named, _tokenizer(work), budgets, recipe.prompt)  # type: ignore[arg-type]


def _tokenizer(work: Workspace) -> "PreTrainedTokenizerBase | None":
    """The student's tokenizer, None if it is out of reach."""
    student = work.recipe.models.student
    with suppress(TiebreakError):
        folder = work.local(Source(student.base, student.revision, is_model=True))
        return hub.tokenizer(str(folder or hub.cached(student.base, student.revision) or student.base))
    return None
