"""What `tiebreak check` looks at: files of votes, or the data of a recipe."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from tiebreak.errors import TiebreakError
from tiebreak.execute.finding import Finding
from tiebreak.execute.workspace import Workspace
from tiebreak.model import hub
from tiebreak.pipeline import Source
from tiebreak.recipe import Role, Split

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from tiebreak.data.card import Card


def check_files(files: Mapping[Role, Sequence[Path]], tokenizer: Path | None) -> "Card":
    """The data card of files by their role; tokens are counted with a model folder's tokenizer, or estimated.

    Raises TiebreakError for files that cannot be read.
    """
    from tiebreak.data.card import check

    counting = None if tokenizer is None else hub.tokenizer(str(tokenizer))
    return check(files, counting)


def check_recipe(work: Workspace) -> "Card":
    """The data card of a recipe: its files, its prompt settings and budgets.

    Tokens are the student's, or estimated where its tokenizer cannot be had, as the pre-flight says.
    """
    from tiebreak.data.card import check

    recipe = work.recipe
    files = {
        role: [work.resolve(Source(location)) for location in locations]
        for role, locations in recipe.data.files().items()
    }
    budgets = sorted({recipe.teach.training.max_tokens, recipe.tta.max_tokens})
    return check(files, _tokenizer(work), budgets, recipe.prompt)


def rejected(work: Workspace, card: "Card") -> Iterator[Finding]:
    """What the card of a recipe's data shows that the run would refuse: rows and files that cannot be read."""
    from tiebreak.data import readers, sources
    from tiebreak.data.card import rejects_of

    data = work.recipe.data
    for role in data.files():
        files = [file for file in card.files if file.role == role]
        broken = [(file.name, file.records, sources.LOST) for file in files if sources.LOST in file.rejects]
        records, votes = sum(file.records for file in files), sum(file.votes for file in files)
        try:
            if not data.incomplete_files:
                readers.refuse_incomplete(broken, readers.OR_INCOMPLETE)
            names = [file.name for file in files]
            readers.refuse_rejected(names, records, votes, rejects_of(files), data.max_rejected_share)
        except TiebreakError as error:
            yield Finding("error", f"data.{role}", str(error))


def too_few(split: Split, labels: Mapping[str, float], prompts: int) -> Iterator[Finding]:
    """What the votes of a run, by the sums of their labels and on so many prompts, are too few or too much alike for.

    Sizes of lockbox and calibration side are what is expected of their shares.
    """
    from tiebreak.data import enough
    from tiebreak.evaluate import power

    votes = round(sum(labels.values()))
    if enough.are_ties(labels):
        yield from (Finding("error", "data.votes", text) for text in enough.notices(labels))
    lockbox, of_lockbox = (round(split.lockbox_share * count) for count in (votes, prompts))
    calibration = round(split.calibration_share * votes)
    for side, text in power.shortfalls(split, votes, lockbox, of_lockbox, calibration):
        yield Finding("warning", f"{side}, expected", text)


def ingested(work: Workspace) -> Iterator[Finding]:
    """The same of votes that a run has read, each taken to be on a prompt of its own; nothing where it has not."""
    from tiebreak.data import enough, streaming
    from tiebreak.data.votes import LABELS, probabilities

    task = work.find("ingest/votes")
    if work.manifest(task):
        batches = streaming.batches(work.folder(task) / "votes.parquet", [f"p_{label}" for label in LABELS])
        labels = enough.label_sums(map(probabilities, batches))
        if not enough.are_ties(labels):
            yield from (Finding("warning", "data.votes", text) for text in enough.notices(labels))
        yield from too_few(work.recipe.split, labels, round(sum(labels.values())))


def _tokenizer(work: Workspace) -> "PreTrainedTokenizerBase | None":
    """The student's tokenizer, None if it is out of reach."""
    student = work.recipe.models.student
    with suppress(TiebreakError):
        folder = work.local(Source(student.base, student.revision, is_model=True))
        return hub.tokenizer(str(folder or hub.cached(student.base, student.revision) or student.base))
    return None
