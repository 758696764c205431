"""Tables of text with a delimiter: CSV with a comma, tab or semicolon, quotes that hold lines, and quotes within quotes.

A quote within a quoted cell is doubled; or it has a backslash in front (Escapes). A first line `sep=;`, as Excel writes
it, names the delimiter. A record that cannot be read yields the reason in its place, for each record in its lines.
"""

import csv
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import Any, Literal, cast

from tiebreak.limits import raised
from tiebreak.votes.formats.dialog import RowError
from tiebreak.votes.formats.rows import TRUNCATED, Record, Row, Unended, require_unique, unreadable
from tiebreak.votes.formats.text_lines import MAX_RECORD, Lines, damaged

Escapes = Literal["none", "quotes", "all"]
"""What a backslash stands in front of: nothing; quotes alone, all else is as it is; or of itself too."""

_SWALLOWED = 2
"""So many lines within a quote may be records that it has swallowed."""
_FEW_VALUES = 20
_HEADER_LINES = 50
"""Lines of a header with cells of several lines; one that goes on has a stray quote."""
_SAMPLE_LINES, _SAMPLE_CHARS = 1000, 1 << 20

_DELIMITERS = ",\t;"
_SEPARATOR = re.compile(r'"?sep=([^\w\s"]|\t)"?\s*$', re.IGNORECASE)
_ESCAPED_QUOTE = re.compile(r'(?<!\\)(?:\\\\)*\\"[^",;\t\r\n]')
_ESCAPED_OTHER = re.compile(r'(?<!\\)(?:\\\\)*\\[^\\"\r\n]')


def rows(lines: Lines, first: str, columns: Collection[str]) -> Iterator[Row]:
    """The records of a table whose first line has been read. Raises TiebreakError for one of `columns` that is twice there."""
    csv.field_size_limit(raised(MAX_RECORD))
    named = _SEPARATOR.match(first)
    rest: Iterator[str] = iter(lines)
    first, rest = _whole_header(next(rest, "") if named else first, rest)
    before = first.count("\n") + bool(named)
    delimiter = named[1] if named else max(_DELIMITERS, key=first.count)
    header = _header(first, delimiter)
    require_unique(lines.path, header, columns)
    sample = list(_sample(rest))
    escapes = _escapes(sample, delimiter, len(header))
    texts = chain(sample, rest)
    span: list[str] = []  # the lines of the record at hand
    reader = _reader(_noted(_doubled(texts) if escapes == "quotes" else texts, span), delimiter, escapes)
    return _records(reader, span, header, delimiter, lines, before)


def _records(
    reader: Any, span: list[str], header: list[str], delimiter: str, lines: Lines, before: int
) -> Iterator[Row]:
    """The records behind a header of `before` lines; `span` has the lines of the one that was read last."""
    known: list[set[str]] = [set() for _ in header]  # values of each column, of some that has few all
    count = 0
    while (cells := _next_cells(reader, span)) is not None:
        if not cells:  # a blank line
            continue
        fault = _fault(cells, header) or _swallowed(span, known, count, delimiter)
        if fault and not span[-1].endswith(("\n", "\r")):  # the file's last line
            if not lines.broken:
                yield count + 1, RowError(TRUNCATED, f"the last record does not end: {fault}")
            return
        if fault:
            if len(span) > 1:
                last = reader.line_num + before
                fault.detail += f", lines {last - len(span) + 1} to {last}"
            for _ in range(_records_in(span, header, delimiter)):
                count += 1
                yield count, unreadable(fault, "".join(span))
            continue
        whole = cast(list[str], cells)
        for values, cell in zip(known, whole, strict=True):
            if len(values) <= _FEW_VALUES:
                values.add(cell)
        count += 1
        yield count, _record(header, whole, "".join(span), delimiter)


def _next_cells(reader: Any, span: list[str]) -> list[str] | csv.Error | None:
    """The cells of the next record, or what is wrong with its quotes; None at the end. `span` gets its lines."""
    span.clear()
    try:
        return cast(list[str] | None, next(reader, None))
    except csv.Error as error:
        return error


def _noted(lines: Iterable[str], span: list[str]) -> Iterator[str]:
    for line in lines:
        span.append(line)
        yield line


def _record(header: list[str], cells: list[str], text: str, delimiter: str) -> Record | RowError:
    """The record of some cells; `text` is its lines."""
    if damaged(text):
        return unreadable(RowError("not UTF-8"), delimiter.join(cells))
    record = dict(zip(header, cells, strict=True))
    return record if text.endswith(("\n", "\r")) else Unended(record)


def _fault(cells: list[str] | csv.Error, header: list[str]) -> RowError | None:
    """The fault of a record's quotes or of the number of its cells, if there is one."""
    if isinstance(cells, csv.Error):
        return RowError("broken quoting", str(cells))
    if len(cells) != len(header):
        return RowError("wrong number of columns", f"{len(cells)} instead of {len(header)}")
    return None


def _swallowed(span: Sequence[str], known: Sequence[set[str]], count: int, delimiter: str) -> RowError | None:
    """The fault of a quote that holds records: lines with the header's columns, whose values are those of the file.

    Only columns of few values in the `count` records so far tell, such as winners: a table in an answer may have as
    many columns by chance.
    """
    inner = span[1:-1]
    if len(inner) < _SWALLOWED or any(line.count(delimiter) != len(known) - 1 for line in inner):
        return None
    few = [column for column, values in enumerate(known) if 0 < len(values) <= min(_FEW_VALUES, count // 2)]
    rows = [line.rstrip("\r\n").split(delimiter) for line in inner]
    if few and all(row[column] in known[column] for row in rows for column in few):
        return RowError("broken quoting", "a quote holds lines that are records themselves")
    return None


def _records_in(span: list[str], header: list[str], delimiter: str) -> int:
    """The number of records in the lines of a broken one, at least one: a stray quote takes all up to the next."""
    return 1 + sum(line.count(delimiter) == len(header) - 1 > 0 for line in span[1:])


def _header(line: str, delimiter: str) -> list[str]:
    line = line.encode("utf-8", "replace").decode("utf-8")
    try:
        return [name.strip() for name in next(csv.reader([line], delimiter=delimiter))]
    except csv.Error:  # one column, of no known format
        return [line.strip()]


def _whole_header(first: str, rest: Iterator[str]) -> tuple[str, Iterator[str]]:
    """The header with the lines that its quotes hold, and the lines after it. A quote that never ends holds none."""
    more: list[str] = []
    while (first + "".join(more)).count('"') % 2:
        if len(more) == _HEADER_LINES or not (line := next(rest, "")):
            return first, chain(more, rest)
        more.append(line)
    return first + "".join(more), rest


def _sample(texts: Iterator[str]) -> Iterator[str]:
    """The first lines, a bounded number of characters in all."""
    size = 0
    for line in islice(texts, _SAMPLE_LINES):
        size += len(line)
        yield line
        if size > _SAMPLE_CHARS:
            return


def _escapes(sample: Sequence[str], delimiter: str, columns: int) -> Escapes:
    """What backslashes stand for in a file: for themselves, unless with another meaning more records can be read."""
    if not any(map(_ESCAPED_QUOTE.search, sample)):
        return "none"
    escaping: Escapes = "quotes" if any(map(_ESCAPED_OTHER.search, sample)) else "all"
    choices: tuple[Escapes, ...] = ("none", escaping)
    return max(choices, key=lambda escapes: _readable(sample, delimiter, columns, escapes))


def _readable(sample: Sequence[str], delimiter: str, columns: int, escapes: Escapes) -> int:
    """The number of records in some lines that have as many cells as the header."""
    reader = _reader(_doubled(sample) if escapes == "quotes" else iter(sample), delimiter, escapes)
    count = 0
    while (cells := _next_cells(reader, [])) is not None:
        count += isinstance(cells, list) and len(cells) == columns
    return count


def _doubled(texts: Iterable[str]) -> Iterator[str]:
    return (line.replace('\\"', '""') for line in texts)


def _reader(texts: Iterable[str], delimiter: str, escapes: Escapes) -> Any:
    return csv.reader(texts, delimiter=delimiter, escapechar="\\" if escapes == "all" else None, strict=True)
