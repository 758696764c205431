"""Rows of raw records, which readers of all files yield."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

from tiebreak.errors import TiebreakError
from tiebreak.votes.formats.dialog import RowError

Record = dict[str, Any]
Row = tuple[int, Record | RowError]
"""A record's number in its file, counted from 1, and the record, or the reason why it cannot be read."""

TRUNCATED = "cannot be read from here on"
"""The kind of a reject that stands for the rest of a file, an unknown number of records."""


class Unended(dict[str, Any]):
    """A record of a table that ends with its file, without a line end: whole, or cut within its last cell."""


def require_unique(path: Path, names: list[str], columns: Collection[str]) -> None:
    """Raise TiebreakError if one of the columns, any if none are given, is there twice."""
    if repeated := sorted(name for name in columns or names if names.count(name) > 1):
        raise TiebreakError(f"{path} has more than one column {repeated[0]}; rename or remove the others")
