"""Annotations: the votes of each person on distinct pairs of answers, from files of votes.

Several votes on a pair are columns of one row (annotator1, annotator2, ... as in PandaLM) or rows of their own, in either order
of the answers. Elsewhere they are one vote with a soft label; here each is kept, with the name of who voted where a column tells.

Dimension letters: N votes, I pairs, C classes (a, b, tie).
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tiebreak.errors import TiebreakError, nearest
from tiebreak.votes.formats import containers
from tiebreak.votes.formats.dialog import RowError
from tiebreak.votes.formats.labels import OtherScale
from tiebreak.votes.formats.mapping import NO_MAP, ColumnMap, ColumnNames, value_at
from tiebreak.votes.formats.readers import detected, require_mapped, votes_in, votes_table
from tiebreak.votes.formats.record_formats import COLUMNS
from tiebreak.votes.formats.rows import Record
from tiebreak.votes.formats.vote import Vote, content_id
from tiebreak.votes.near_duplicates import prompt_groups
from tiebreak.votes.pair_hash import pair_hash
from tiebreak.votes.schema import swap_answers

log = logging.getLogger(__name__)

NAMES = ("annotator", "annotator_id", "annotator_name", "judge", "evaluator", "rater", "labeler", "worker")
"""Columns that name who voted; the first that is there does."""
SHOWN_FIRST = "shown_first"
"""The column that tells which answer was shown first, a or b, as votes of `tiebreak serve` have it; a where there is none."""


@dataclass(frozen=True)
class Annotations:
    """Votes on distinct pairs (votes.schema.SCHEMA, in the order of a pair's first vote, whose labels it keeps).

    pair_N: the pair of each vote. y_NC: its label, with a and b as the pair has them. swapped_N: where the pair's answer b was
    shown first. people: who voted, None where nothing tells.
    """

    pairs: pa.Table
    pair_N: NDArray[np.int64]
    y_NC: NDArray[np.float64]
    swapped_N: NDArray[np.bool_]
    people: list[str | None]

    def __len__(self) -> int:
        return len(self.pair_N)

    @cached_property
    def groups(self) -> NDArray[np.int64]:
        """The prompt group of each pair; near-duplicate prompts share one."""
        return prompt_groups(self.pairs)

    @property
    def hard(self) -> NDArray[np.bool_]:
        """A mask of the votes with one label; others are shares of several people, or of one who was unsure."""
        hard: NDArray[np.bool_] = self.y_NC.max(axis=1) == 1
        return hard


def read(paths: Sequence[Path], mapping: ColumnMap = NO_MAP, annotator: str | None = None) -> Annotations:
    """Read the votes of files and folders, each person's by itself.

    annotator: the column that names who voted, one of NAMES by default. Rows that cannot be read are left out with a warning.
    Raises TiebreakError for files without votes, of no known format, and for a column that is named and nowhere.
    """
    require_mapped(paths, mapping)
    columns = {column for path in containers.expand(paths if annotator else ()) for column in _columns(path)}
    if annotator and annotator.partition(".")[0] not in columns:
        raise TiebreakError(f"no column {annotator!r} that names who voted; {nearest(annotator, columns)}")
    found = [vote for path in containers.expand(paths) for vote in _read_file(path, mapping, annotator)]
    if not found:
        raise TiebreakError(f"no votes in {', '.join(map(str, paths))}")
    votes, people, b_first = zip(*found, strict=True)
    return _of_votes(votes, list(people), np.array(b_first))


def _of_votes(votes: Sequence[Vote], people: list[str | None], b_first_N: NDArray[np.bool_]) -> Annotations:
    """The annotations of labelled votes. b_first_N: where a vote's answer b was shown first."""
    number: dict[int, int] = {}
    first, orders, pair_N, swapped_N = list[Vote](), list[bool](), list[int](), list[bool]()
    for vote in votes:
        pair, order = pair_hash(vote.prompt, vote.response_a, vote.response_b)
        if pair not in number:
            number[pair] = len(first)
            first.append(vote)
            orders.append(order)
        pair_N.append(number[pair])
        swapped_N.append(order != orders[number[pair]])
    y_NC = np.array([vote.p for vote in votes], dtype=np.float64)
    return Annotations(
        votes_table(_with_ids(first)),
        np.array(pair_N),
        swap_answers(y_NC, swapped_N),
        np.array(swapped_N) ^ b_first_N,
        people,
    )


def _with_ids(pairs: Sequence[Vote]) -> list[Vote]:
    """The pairs under ids that are unique: their own, or those of their texts."""
    seen: set[str] = set()
    named = []
    for pair in pairs:
        name = pair.id or pair.question_id or content_id(pair)
        if name in seen:
            name = f"{name}-{content_id(pair)}"
        seen.add(name)
        named.append(pair._replace(id=name))
    return named


def _read_file(
    path: Path, mapping: ColumnMap, annotator: str | None
) -> Iterator[tuple[Vote, str | None, bool]]:
    """The votes of a file, each with the name of who voted, and True where answer b was shown first.

    Raises TiebreakError as `read` does.
    """
    wanted = ColumnNames((*((annotator,) if annotator else NAMES), SHOWN_FIRST))
    rows = containers.records(path, COLUMNS | mapping.reads() | wanted)
    found = detected(path, rows, labelled=True, mapping=mapping)
    if found is None:
        return
    record_format, options, rows = found
    columns = options.fields.names.annotators
    rejects = []
    for row, record in rows:
        try:
            for part, person in _by_person(record, columns, annotator):
                for vote in votes_in(part, record_format, options):
                    yield vote, person, not isinstance(part, RowError) and part.get(SHOWN_FIRST) == "b"
        except RowError as error:
            rejects.append((row, str(error)))
        except OtherScale as error:
            raise TiebreakError(
                f"{path}, record {row}: {error}; say what all values mean, such as --values '1=a,2=b'"
            ) from None
    if rejects:
        log.warning(
            "%s: %d of its rows cannot be read and are left out, the first is row %d: %s",
            path, len(rejects), *rejects[0],
        )  # fmt: skip


def _columns(path: Path) -> Sequence[str]:
    """The columns of a file's first record."""
    first = next((record for _, record in containers.records(path)), {})
    return list(first) if isinstance(first, dict) else []


def _by_person(
    record: Record | RowError, columns: Sequence[str], annotator: str | None
) -> Iterator[tuple[Record | RowError, str | None]]:
    """A record once for each person's column that has a vote, or as it is, with the name of who voted."""
    if isinstance(record, RowError):
        yield record, None
        return
    voted = [name for name in columns if record.get(name) not in (None, "")]
    if len(voted) < 2:
        yield record, _person(record, annotator) or (voted[0] if voted else None)
        return
    for name in voted:
        yield record | dict.fromkeys(other for other in voted if other != name), name


def _person(record: Record, annotator: str | None) -> str | None:
    """The name of who voted, by the column that tells; None where none does."""
    names: Sequence[str] = (annotator,) if annotator else NAMES
    value: Any = next((found for name in names if (found := value_at(record, name)) not in (None, "")), None)
    if isinstance(value, list | tuple):
        value = "/".join(map(str, value))
    return None if value is None else str(value)
