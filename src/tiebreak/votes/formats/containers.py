"""Streaming readers of raw records, whose format is detected by a file's content, never by its name.

CSV (also tab or semicolon), JSON Lines, JSON arrays and Parquet; gzip and zstd around the text formats;
folders of such files; data sets of the hub (hub_datasets). A record that cannot be read yields the reason in its
place, so that records in = records out + rejects; where a file breaks off, one reject stands for the rest
(TRUNCATED). Data is parsed, never evaluated.
"""

import csv
import gzip
import io
import json
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, cast

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tiebreak.errors import TiebreakError
from tiebreak.votes.formats import hub_datasets
from tiebreak.votes.formats.dialog import RowError
from tiebreak.votes.formats.text_lines import MAX_RECORD, Lines, Stream, Unfolded, damaged

Record = dict[str, Any]
Row = tuple[int, Record | RowError]
"""A record's number in its file, counted from 1, and the record, or the reason why it cannot be read."""

TRUNCATED = "cannot be read from here on"
"""The kind of a reject that stands for the rest of a file, an unknown number of records."""

_SWALLOWED = 2
"""So many lines within a quote may be records that it has swallowed."""
_FEW_VALUES = 20

_FREE_ROWS = 1_000_000
"""Rows of Parquet beyond one for each two bytes."""
_BATCH_BYTES = 16 << 20
_BLANK = " \t\r\n"
_BETWEEN = re.compile(f"[{_BLANK},]*")
_DELIMITERS = ",\t;"
_UTF_16 = re.compile("\ufffe|ÿþ|þÿ|\udcff\udcfe|\udcfe\udcff|\0[^\0]\0[^\0]|[^\0]\0[^\0]\0")
_CONTROL = re.compile(r"[\0-\x08\x0e-\x1f]")
_BROKEN_PARQUET = (pa.ArrowException, OSError, ValueError, MemoryError)


def expand(paths: Iterable[Path]) -> list[Path]:
    """The files to read: folders stand for the files in them, hidden ones left out, sorted by name.

    Raises TiebreakError if a path does not exist or a folder is empty.
    """
    files: list[Path] = []
    for path in paths:
        if hub_datasets.parse_location(path):
            files.append(path)
            continue
        if not path.exists():
            raise TiebreakError(f"no file at {path}")
        inside = sorted(p for p in path.rglob("*") if p.is_file() and not _hidden(p.relative_to(path)))
        if path.is_dir() and not inside:
            raise TiebreakError(f"the folder {path} holds no files")
        files += inside if path.is_dir() else [path]
    return files


def records(path: Path, columns: Collection[str] = ()) -> Iterator[Row]:
    """Stream the records of one file. Of Parquet only `columns` are read, if it has any of them; all without `columns`.

    Raises TiebreakError if the file cannot be opened, or is of no format known here.
    """
    if source := hub_datasets.parse_location(path):
        yield from hub_datasets.records(source, columns)
        return
    try:
        with path.open("rb") as file:
            yield from _decompressed(path, file, columns)
    except (IsADirectoryError, PermissionError) as error:
        raise TiebreakError(f"cannot read {path}: {error.strerror}") from None


def arriving(stream: BinaryIO) -> Iterator[Row]:
    """Stream JSON Lines from a pipe, each as soon as it has come."""
    for count, line in enumerate(filter(bytes.strip, iter(partial(stream.readline, MAX_RECORD), b"")), 1):
        try:
            text = line.decode("utf-8-sig")
        except UnicodeDecodeError:
            yield count, RowError("not UTF-8")
        else:
            yield count, _parsed(text)


def _hidden(path: Path) -> bool:
    return any(part.startswith((".", "_")) for part in path.parts)


def _decompressed(path: Path, file: io.BufferedReader, columns: Collection[str]) -> Iterator[Row]:
    start = file.peek(6)[:6]
    if start[:4] == b"PAR1":
        return _parquet(path, columns)
    if start[:2] == b"\x1f\x8b":
        return _text(path, gzip.GzipFile(fileobj=file), columns)
    if start[:4] == b"\x28\xb5\x2f\xfd":
        # a small buffer: where the stream breaks off, what it holds is lost
        stream = io.BufferedReader(cast(Any, pa.CompressedInputStream(file, "zstd")), 1 << 14)
        return _text(path, stream, columns)
    for magic, name in ((b"PK\x03\x04", "zip"), (b"BZh", "bzip2"), (b"\xfd7zXZ", "xz"), (b"ARROW1", "Arrow")):
        if start.startswith(magic):
            raise TiebreakError(f"{path} is a {name} file; unpack it, or store it as gz, zst or Parquet")
    return _text(path, file, columns)


def _text(path: Path, stream: Stream, columns: Collection[str]) -> Iterator[Row]:
    lines = Lines(path, stream)
    first = next((line for line in lines if line.strip(_BLANK)), "")
    if _UTF_16.match(first):
        raise TiebreakError(f"{path} is UTF-16; convert it: iconv -f UTF-16 -t UTF-8 {path} > OUT")
    if first.startswith("PAR1"):
        raise TiebreakError(
            f"{path} is a compressed Parquet file; unpack it first, Parquet is compressed inside"
        )
    opening = first.lstrip()[:1]
    if opening not in ("{", "[") and _CONTROL.search(first):
        raise TiebreakError(
            f"{path} is not text; needed is CSV, JSON or Parquet, or one of them as gz or zst"
        )
    rows = {"{": _json_lines, "[": _json_array}.get(opening, partial(_csv, columns=columns))
    count = 0
    for count, record in rows(lines, first):
        yield count, record
    if lines.broken:
        yield count + 1, RowError(TRUNCATED, lines.broken)


def _csv(lines: Lines, header_line: str, columns: Collection[str]) -> Iterator[Row]:
    csv.field_size_limit(MAX_RECORD)
    delimiter = max(_DELIMITERS, key=header_line.count)
    header = _header(header_line, delimiter)
    _require_unique(lines.path, header, columns)
    span: list[str] = []  # the lines of the record at hand
    known: list[set[str]] = [set() for _ in header]  # values of each column, of some that has few all
    reader = csv.reader(_noted(lines, span), delimiter=delimiter, strict=True)
    count = 0
    while (cells := _next_cells(reader, span)) is not None:
        if not cells:  # a blank line
            continue
        fault = _fault(cells, header) or _swallowed(span, known, count, delimiter)
        if fault and not span[-1].endswith(("\n", "\r")):  # the file's last line
            if not lines.broken:
                yield count + 1, RowError(TRUNCATED, f"the last record does not end: {fault}")
            return
        if fault and len(span) > 1:
            fault.detail += f", lines {reader.line_num - len(span) + 2} to {reader.line_num + 1}"
        for values, cell in zip(known, () if fault else cast(list[str], cells), strict=False):
            if len(values) <= _FEW_VALUES:
                values.add(cell)
        for _ in range(_records_in(span, header, delimiter) if fault else 1):
            count += 1
            yield count, fault or _record(header, cast(list[str], cells))


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


def _record(header: list[str], cells: list[str]) -> Record | RowError:
    return RowError("not UTF-8") if any(map(damaged, cells)) else dict(zip(header, cells, strict=True))


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


def _require_unique(path: Path, names: list[str], columns: Collection[str]) -> None:
    if repeated := sorted(name for name in columns or names if names.count(name) > 1):
        raise TiebreakError(f"{path} has more than one column {repeated[0]}; rename or remove the others")


def _header(line: str, delimiter: str) -> list[str]:
    line = line.encode("utf-8", "replace").decode("utf-8")
    try:
        return [name.strip() for name in next(csv.reader([line], delimiter=delimiter))]
    except csv.Error:  # one column, of no known format
        return [line.strip()]


def _json_lines(lines: Lines, first: str) -> Iterator[Row]:
    count = 0
    for line in _join_lines(first, lines):
        if not line.strip(_BLANK):
            continue
        count += 1
        record = RowError("not UTF-8") if damaged(line) else _parsed(line)
        if isinstance(record, RowError) and not line.endswith("\n") and len(line) < MAX_RECORD:
            if not lines.broken:
                yield count, RowError(TRUNCATED, f"the last line does not end: {record}")
            return
        yield count, record


def _join_lines(first: str, lines: Lines) -> Iterator[str]:
    """Lines, where of one longer than MAX_RECORD only the first piece is kept, which does not parse."""
    previous = "\n"
    for line in chain([first], lines):
        if previous.endswith("\n"):
            yield line
        previous = line


def _parsed(text: str) -> Record | RowError:
    try:
        record = json.loads(text, strict=False)
    except (ValueError, RecursionError) as error:
        return RowError("not JSON", str(error))
    return _object(record)


def _object(value: Any) -> Record | RowError:
    """The value, if it is a JSON object."""
    return value if isinstance(value, dict) else RowError("not a JSON object", type(value).__name__)


def _json_array(lines: Lines, first: str) -> Iterator[Row]:
    """Objects of one array, decoded as the text arrives. After damage the rest is lost."""
    decoder = json.JSONDecoder(strict=False)
    pieces = chain([first.lstrip()[1:]], lines)
    buffer, at, count = next(pieces), 0, 0
    while True:
        at = cast(re.Match[str], _BETWEEN.match(buffer, at)).end()
        if buffer.startswith("]", at):
            return
        try:
            record, end = decoder.raw_decode(buffer, at)
        except (ValueError, RecursionError) as error:
            rest = buffer[at:]
            buffer, at = _grow(rest, pieces), 0
            if len(buffer) > len(rest) and len(rest) <= MAX_RECORD:
                continue
            if rest:
                yield count + 1, RowError(TRUNCATED, f"not JSON: {error}")
            elif not lines.broken:
                yield count + 1, RowError(TRUNCATED, "the array is not closed")
            return
        count += 1
        yield count, RowError("not UTF-8") if damaged(buffer[at:end]) else _object(record)
        at = end


def _grow(buffer: str, pieces: Iterator[str]) -> str:
    """The buffer grown to at least twice its size, if there is as much text, so that retries take linear time."""
    parts, size = [buffer], 0
    for piece in pieces:
        parts.append(piece)
        size += len(piece)
        if size > len(buffer):
            break
    return "".join(parts)


def _parquet(path: Path, columns: Collection[str]) -> Iterator[Row]:
    try:
        texts = [field.name for field in pq.read_schema(path) if pa.types.is_string(field.type)]
        file = pq.ParquetFile(path, read_dictionary=texts, pre_buffer=False, page_checksum_verification=True)
    except _BROKEN_PARQUET as error:
        raise TiebreakError(f"{path} is a damaged Parquet file: {error}") from None
    _require_unique(path, file.schema_arrow.names, columns)
    unfolded = Unfolded(path)
    if file.metadata.num_rows > _FREE_ROWS + unfolded.size // 2:
        raise TiebreakError(
            f"{path} has {unfolded.size} bytes and claims {file.metadata.num_rows} rows; it is damaged"
        )
    wanted = [name for name in file.schema_arrow.names if name in columns] or None
    done = 0
    for number in range(file.num_row_groups):
        group = file.metadata.row_group(number)
        rows = max(1, min(2048, _BATCH_BYTES * group.num_rows // max(group.total_byte_size, 1)))
        end, damage = done + group.num_rows, ""
        try:
            for batch in file.iter_batches(rows, [number], wanted, use_threads=False):
                size = _text_bytes(batch)
                unfolded.add(size)
                yield from _batch_rows(batch, done + 1, size)
                done += batch.num_rows
        except _BROKEN_PARQUET as error:
            damage = str(error)
        for row in range(done + 1, end + 1):
            yield row, RowError("damaged Parquet row group", damage)
        done = end


def _text_bytes(batch: pa.RecordBatch) -> int:
    """The bytes of a batch, each text counted as often as it stands there: in a dictionary it stands once."""
    lengths = (
        pc.sum(pc.take(pc.binary_length(column.dictionary), column.indices)).as_py() or 0
        for column in batch.columns
        if pa.types.is_dictionary(column.type) and pa.types.is_string(column.type.value_type)
    )
    return int(batch.nbytes) + sum(lengths)


def _batch_rows(batch: pa.RecordBatch, first: int, size: int) -> Iterator[Row]:
    if size > 4 * _BATCH_BYTES:  # as one text of megabytes in many rows
        yield from ((first + n, _one_row(batch.slice(n, 1))) for n in range(batch.num_rows))
        return
    try:
        yield from enumerate(batch.to_pylist(), first)
    except (UnicodeDecodeError, OverflowError):
        for n in range(batch.num_rows):
            yield first + n, _one_row(batch.slice(n, 1))


def _one_row(row: pa.RecordBatch) -> Record | RowError:
    try:
        return cast(Record, row.to_pylist()[0])
    except UnicodeDecodeError:
        return RowError("not UTF-8")
    except OverflowError as error:  # a date beyond Python's
        return RowError("not readable", str(error))
