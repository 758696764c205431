"""Pairs of answers as a caller in Python has them: dicts, a table of any library, or a file."""

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tiebreak.errors import TiebreakError
from tiebreak.votes.formats.dialog import RowError
from tiebreak.votes.formats.mapping import ColumnMap
from tiebreak.votes.formats.pairs import Pair, PairFile, read_whole
from tiebreak.votes.formats.readers import votes_table
from tiebreak.votes.formats.record_formats import PAIR, ReadOptions
from tiebreak.votes.formats.vote import Vote

_TEXTS = ("prompt", "response_a", "response_b")
_PAIR = f"a pair is a dict with {', '.join(_TEXTS)}, each a string, or a list of turns or messages"
_GIVEN = Path("what was given")
"""What stands for the name of a file in errors."""


_UNLABELLED = ReadOptions(labelled=False)


class Table(Protocol):
    """A table of pyarrow, pandas, polars and others, by Arrow's interface between them."""

    def __arrow_c_stream__(self, requested_schema: object = None) -> object: ...


Pairs: TypeAlias = Path | str | Table | Mapping[str, Any] | Iterable[Mapping[str, Any]]


def as_table(pairs: Pairs, columns: Mapping[str, str] | None = None) -> tuple[pa.Table, NDArray[np.bool_]]:
    """Convert one dict, dicts, a table or a file to a table in votes.schema.SCHEMA, and a mask (n,) of the pairs that it
    shows with `rejected` as answer A.

    columns: the names that fields have in the pairs, as `--map` gives them. A table is read as a file of its rows; strings
    of dicts are texts, never JSON. Raises TiebreakError if any of them cannot be read: no pair is left out in silence.
    """
    mapping = ColumnMap(columns or {})
    found = read_whole(Path(pairs), mapping) if isinstance(pairs, str | Path) else _read_given(pairs, mapping)
    return votes_table([vote for _, vote in found]), np.array([pair.swapped for pair, _ in found], dtype=bool)


def read_pairs(pairs: Iterable[Mapping[str, Any]]) -> Iterator[Vote]:
    """The unlabelled votes of dicts that have prompt, response_a and response_b, and `system` if they like.

    As by `as_table`, without a look for columns of other names. Raises TiebreakError for one that cannot be read.
    """
    for number, pair in enumerate(pairs):
        try:
            yield from PAIR.votes(pair, _UNLABELLED)
        except RowError as error:
            raise _unreadable(number, error) from None


def _unreadable(number: int, why: object) -> TiebreakError:
    return TiebreakError(f"pair {number}: {why}; {_PAIR}")


def _read_given(pairs: Any, mapping: ColumnMap) -> list[tuple[Pair, Vote]]:
    rows, of_dicts = _rows(pairs)
    if not rows:
        return []
    read = PairFile(_GIVEN, enumerate(rows), len(rows), mapping, encoded=False if of_dicts else None)
    found = []
    for number, pair in enumerate(read):
        if pair.vote is None:
            raise _unreadable(number, pair.error)
        found.append((pair, pair.vote._replace(id=pair.vote.id or str(number))))
    return found


def _rows(pairs: Any) -> tuple[Sequence[dict[str, Any]], bool]:
    """The rows, and True if they were dicts."""
    if hasattr(pairs, "__arrow_c_stream__"):
        try:
            return pa.table(pairs).to_pylist(), False
        except pa.ArrowException as error:
            raise TiebreakError(f"the table of pairs cannot be read: {error}; give dicts instead") from None
    if not isinstance(pairs, Iterable):
        raise TiebreakError(f"pairs are a list of dicts, a table or a file, not {pairs!r:.40}; {_PAIR}")
    rows = [pairs] if isinstance(pairs, Mapping) else list(pairs)
    for number, row in enumerate(rows):
        if not isinstance(row, Mapping):
            raise TiebreakError(f"pair {number} is {row!r:.40}; {_PAIR}")
    return [{name: as_list(cell) for name, cell in row.items()} for row in rows], True


def as_list(cell: Any) -> Any:
    """Convert any other sequence of turns, such as an array, to a list. A set has no order, so it stays, and is refused."""
    is_sequence = isinstance(cell, Iterable) and not isinstance(cell, str | bytes | Mapping | Set)
    return list(cell) if is_sequence else cell
