"""Data checks of `tiebreak check`: files of votes, or the data of a recipe."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from tiebreak.engine.finding import Finding
from tiebreak.engine.planner import state
from tiebreak.engine.workspace import Workspace
from tiebreak.errors import TiebreakError
from tiebreak.model import hub
from tiebreak.pipeline.graph import Source
from tiebreak.recipe.schema import Data, Split
from tiebreak.recipe.values import Role
from tiebreak.votes.formats.mapping import NO_MAP, ColumnMap

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from tiebreak.data_card.card import Card


def check_files(
    files: Mapping[Role, Sequence[Path]], tokenizer: Path | None, mapping: ColumnMap = NO_MAP
) -> "Card":
    """Build the data card of files by their role; tokens are counted with a model folder's tokenizer, or estimated.

    Raises TiebreakError for files that cannot be read.
    """
    from tiebreak.data_card.card import build_card

    counting = None if tokenizer is None else hub.tokenizer(str(tokenizer))
    return build_card(files, counting, mapping=mapping)


def check_recipe(work: Workspace) -> "Card":
    """Build the data card of a recipe: its files, its prompt settings and budgets.

    Tokens are the student's, or estimated where its tokenizer is unavailable, which the pre-flight reports.
    """
    from tiebreak.data_card.card import build_card

    recipe = work.recipe
    files = {
        role: [work.resolve(Source(location)) for location in locations]
        for role, locations in recipe.data.files().items()
    }
    budgets = sorted({recipe.teach.training.max_tokens, recipe.tta.max_tokens})
    mapping = ColumnMap(recipe.data.columns, recipe.data.values)
    return build_card(files, _tokenizer(work), budgets, recipe.prompt, mapping)


def data_findings(card: "Card", data: Data | None = None, split: Split | None = None) -> Iterator[Finding]:
    """Findings on the votes of a card that stop a run or are few, by a recipe's settings or the default ones."""
    from tiebreak.data_card.card import labels_of

    yield from rejection_findings(card, data or Data(votes=(".",)))  # its settings matter here, not its files
    yield from too_few(split or Split(), labels_of(card), card.voted_groups)


def rejection_findings(card: "Card", data: Data) -> Iterator[Finding]:
    """Findings on rows and files that cannot be read and would stop a run with these settings."""
    from tiebreak.data_card.card import total_rejects
    from tiebreak.votes.formats import readers
    from tiebreak.votes.formats.dialog import RowError
    from tiebreak.votes.formats.rows import TRUNCATED

    for role in dict.fromkeys(file.role for file in card.files):
        files = [file for file in card.files if file.role == role]
        broken = [
            readers.Reject(file.name, file.records, RowError(TRUNCATED))
            for file in files
            if TRUNCATED in file.rejects
        ]
        records, votes = sum(file.records for file in files), sum(file.votes for file in files)
        weightless = sum(file.weightless for file in files)
        try:
            if not data.incomplete_files:
                readers.require_complete(broken, readers.OR_INCOMPLETE)
            names = [file.name for file in files]
            readers.require_usable(
                names, records, votes, total_rejects(files), data.max_rejected_share, weightless
            )
        except TiebreakError as error:
            yield Finding("error", f"data.{role}", str(error))


def too_few(split: Split, labels: Mapping[str, float], prompts: int) -> Iterator[Finding]:
    """Findings about votes that are too few or too much alike, by the sums of their labels and their number of prompts.

    Sizes of lockbox and calibration side are what is expected of their shares.
    """
    from tiebreak.stats import power
    from tiebreak.votes import sample_size

    votes = round(sum(labels.values()))
    if not votes:  # which is an error already
        return
    if sample_size.are_ties(labels):
        yield from (Finding("error", "data.votes", text) for text in sample_size.notices(labels))
    lockbox, of_lockbox = (round(split.lockbox_share * count) for count in (votes, prompts))
    calibration = round(split.calibration_share * votes)
    for side, text in power.shortfalls(split, votes, lockbox, of_lockbox, calibration):
        yield Finding("warning", f"{side}, expected", text)


def ingested(work: Workspace) -> Iterator[Finding]:
    """The same of votes that a run has read, each taken to be on a prompt of its own; nothing where it has not."""
    from tiebreak.votes import parquet, sample_size
    from tiebreak.votes.schema import LABELS, probabilities

    task = work.find("ingest/votes")
    file = work.folder(task) / "votes.parquet"
    if state(work, task).status == "fresh" and file.is_file():
        batches = parquet.batches(file, [f"p_{label}" for label in LABELS])
        labels = sample_size.label_sums(map(probabilities, batches))
        if not sample_size.are_ties(labels):
            yield from (Finding("warning", "data.votes", text) for text in sample_size.notices(labels))
        yield from too_few(work.recipe.split, labels, round(sum(labels.values())))


def _tokenizer(work: Workspace) -> "PreTrainedTokenizerBase | None":
    """The student's tokenizer, None if it is out of reach."""
    student = work.recipe.models.student
    with suppress(TiebreakError):
        folder = work.local(Source(student.base, student.revision, is_model=True))
        return hub.tokenizer(str(folder or hub.cached(student.base, student.revision) or student.base))
    return None
