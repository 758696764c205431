"""Rows of raw records, which readers of all files yield."""

from collections import Counter
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

from tiebreak.errors import TiebreakError
from tiebreak.votes.formats.dialog import RowError

Record = dict[str, Any]
Row = tuple[int, Record | RowError]
"""A record's number in its file, counted from 1, and the record, or the reason why it cannot be read."""

UNREADABLE = "unreadable"
"""The column with the text of a record that cannot be read."""

TRUNCATED = "cannot be read from here on"
"""The kind of a reject that stands for the rest of a file, an unknown number of records."""


class Unended(dict[str, Any]):
    """A record of a table that ends with its file, without a line end: whole, or cut within its last cell."""


_KEPT = 10_000
"""Characters that are kept of a record that cannot be read."""


def unreadable(error: RowError, text: str) -> RowError:
    """The error with the beginning of the record's text, bytes that are no text replaced."""
    cut = text[: _KEPT + 1].rstrip("\r\n")
    raw = cut.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return replace(error, raw=raw if len(text) <= _KEPT else f"{raw[:_KEPT]} [...]")


def columns_of(record: Record | RowError) -> Record:
    """The columns of a record; of one that cannot be read its text, if that is known, in UNREADABLE."""
    if isinstance(record, RowError):
        return {UNREADABLE: record.raw} if record.raw else {}
    return record


def require_unique(path: Path, names: list[str], columns: Collection[str]) -> None:
    """Raise TiebreakError if one of the columns, any if none are given, is there twice."""
    counts = Counter(names)
    if repeated := sorted(
        name for name, count in counts.items() if count > 1 and (not columns or name in columns)
    ):
        raise TiebreakError(f"{path} has more than one column {repeated[0]}; rename or remove the others")
