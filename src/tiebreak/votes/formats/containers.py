"""Streaming readers of raw records, whose format is detected by a file's content, never by its name.

CSV (also tab or semicolon), JSON Lines, JSON arrays and Parquet; gzip and zstd around the text formats;
folders of such files; data sets of the hub (hub_datasets). A record that cannot be read yields the reason in its
place, so that records in = records out + rejects; where a file breaks off, one reject stands for the rest
(TRUNCATED). Data is parsed, never evaluated.
"""

import gzip
import io
import json
import re
from collections.abc import Collection, Iterable, Iterator
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, cast

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tiebreak import json_files
from tiebreak.errors import TiebreakError
from tiebreak.limits import RAISE, raised
from tiebreak.regular_file import require_regular
from tiebreak.votes.formats import delimited, hub_datasets
from tiebreak.votes.formats.dialog import RowError
from tiebreak.votes.formats.rows import TRUNCATED, Record, Row, require_unique, unreadable
from tiebreak.votes.formats.text_lines import MAX_RECORD, Lines, Stream, Unfolded, damaged
from tiebreak.votes.parquet import opened

_FREE_ROWS = 1_000_000
"""Rows of Parquet beyond one for each two bytes."""
_BATCH_BYTES = 16 << 20
_BLANK = " \t\r\n"
_BETWEEN = re.compile(f"[{_BLANK},]*")
_UTF_16 = re.compile("\ufffe|ÿþ|þÿ|\udcff\udcfe|\udcfe\udcff|\0[^\0]\0[^\0]|[^\0]\0[^\0]\0")
_CONTROL = re.compile(r"[\0-\x08\x0e-\x1f]")
_REPEATED = "a key is there twice"
_LAX = json.JSONDecoder(strict=False)
_BROKEN_PARQUET = (pa.ArrowException, OSError, ValueError, MemoryError)
_NO_VALUE = (ValueError, OverflowError)
"""What Python has no value for: bytes that are no text, a date beyond its years, a time zone that is not known here."""


def expand(paths: Iterable[Path]) -> list[Path]:
    """The files to read: folders stand for the files in them, hidden ones left out, sorted by name.

    Raises TiebreakError if a path does not exist or is no file, as a pipe is, or a folder is empty.
    """
    files: list[Path] = []
    for path in paths:
        if hub_datasets.parse_location(path):
            files.append(path)
            continue
        if not path.exists():
            raise TiebreakError(f"no file at {path}")
        if not path.is_dir():
            require_regular(path)
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
    if not path.exists():
        raise TiebreakError(f"no file at {path}")
    require_regular(path)
    try:
        with path.open("rb") as file:
            yield from _decompressed(path, file, columns)
    except PermissionError as error:
        raise TiebreakError(f"cannot read {path}: {error.strerror}") from None


def arriving(stream: BinaryIO) -> Iterator[Row]:
    """Stream JSON Lines from a pipe, each as soon as it has come. Raises TiebreakError for what begins like something else."""
    for count, line in enumerate(
        filter(bytes.strip, iter(partial(stream.readline, raised(MAX_RECORD)), b"")), 1
    ):
        try:
            text = line.decode("utf-8-sig")
        except UnicodeDecodeError:
            yield count, unreadable(RowError("not UTF-8"), line.decode("utf-8", "surrogateescape"))
        else:
            if count == 1 and not text.lstrip().startswith("{"):
                raise TiebreakError(
                    f"standard input takes JSON Lines, an object a line, and this begins with {text.strip():.40}; write "
                    "CSV or an array into a file, and name that"
                )
            record = _parsed(text)
            if isinstance(record, RowError) and not text.endswith("\n"):
                record = RowError(TRUNCATED, f"the last line does not end: {record}")
            yield count, record


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
    rows = {"{": _json_lines, "[": _json_array}.get(opening, partial(delimited.rows, columns=columns))
    count = 0
    for count, record in rows(lines, first):
        yield count, record
    if lines.broken:
        yield count + 1, RowError(TRUNCATED, lines.broken)


def _json_lines(lines: Lines, first: str) -> Iterator[Row]:
    count, ended = 0, True
    for line in chain([first], lines):
        is_rest, ended = not ended, line.endswith("\n")
        if is_rest or not line.strip(
            _BLANK
        ):  # the rest of one longer than MAX_RECORD, whose start does not parse
            continue
        count += 1
        record = unreadable(RowError("not UTF-8"), line) if damaged(line) else _parsed(line)
        if isinstance(record, RowError) and not ended and len(line) < raised(MAX_RECORD):
            if not lines.broken:
                yield count, RowError(TRUNCATED, f"the last line does not end: {record}")
            return
        yield count, record


def _parsed(text: str) -> Record | RowError:
    try:
        return _object(json_files.loads(text), text)
    except json_files.RepeatedKey as error:
        return unreadable(RowError(_REPEATED, str(error)), text)
    except ValueError as error:
        return unreadable(RowError("not JSON", str(error)), text)


def _object(value: Any, text: str) -> Record | RowError:
    """The value of a text, if it is a JSON object."""
    if isinstance(value, dict):
        return value
    return unreadable(RowError("not a JSON object", type(value).__name__), text)


def _shallow(value: Any, text: str) -> Record | RowError:
    """As `_object`, for a value that was decoded within more text."""
    try:
        json_files.require_shallow(value, text)
    except ValueError as error:
        return unreadable(RowError("not JSON", str(error)), text)
    return _object(value, text)


def _json_array(lines: Lines, first: str) -> Iterator[Row]:
    """Objects of one array, decoded as the text arrives. After damage the rest is lost."""
    pieces = chain([first.lstrip()[1:]], lines)
    buffer, at, count = next(pieces), 0, 0
    while True:
        at = cast(re.Match[str], _BETWEEN.match(buffer, at)).end()
        if buffer.startswith("]", at):
            if buffer[at + 1 :].strip(_BLANK) or any(piece.strip(_BLANK) for piece in pieces):
                yield count + 1, RowError(TRUNCATED, "more comes after the end of the array")
            return
        try:
            record, end = _next_object(buffer, at)
        except (ValueError, RecursionError) as error:
            rest = buffer[at:]
            buffer, at = _grow(rest, pieces), 0
            if len(buffer) > len(rest) and len(rest) <= raised(MAX_RECORD):
                continue
            if rest:
                yield count + 1, RowError(TRUNCATED, f"not JSON: {error}")
            elif not lines.broken:
                yield count + 1, RowError(TRUNCATED, "the array is not closed")
            return
        count += 1
        text = buffer[at:end]
        yield count, unreadable(RowError("not UTF-8"), text) if damaged(text) else record
        at = end


def _next_object(text: str, at: int) -> tuple[Record | RowError, int]:
    """The object that begins at a place in a text, and the place behind it. Raises as `json` does."""
    try:
        found, end = json_files.DECODER.raw_decode(text, at)
    except json_files.RepeatedKey as error:
        end = _LAX.raw_decode(text, at)[1]
        return unreadable(RowError(_REPEATED, str(error)), text[at:end]), end
    return _shallow(found, text[at:end]), end


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
        texts = [field.name for field in pq.read_schema(opened(path)) if pa.types.is_string(field.type)]
        file = pq.ParquetFile(
            opened(path), read_dictionary=texts, pre_buffer=False, page_checksum_verification=True
        )
    except _BROKEN_PARQUET as error:
        raise TiebreakError(f"{path} is a damaged Parquet file: {error}") from None
    require_unique(path, file.schema_arrow.names, columns)
    unfolded = Unfolded(path)
    if file.metadata.num_rows > raised(_FREE_ROWS) + raised(1) * unfolded.size // 2:
        raise TiebreakError(
            f"{path} has {unfolded.size} bytes and claims {file.metadata.num_rows} rows; it is damaged, or "
            f"{RAISE}"
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
    except _NO_VALUE:
        for n in range(batch.num_rows):
            yield first + n, _one_row(batch.slice(n, 1))


def _one_row(row: pa.RecordBatch) -> Record | RowError:
    try:
        return cast(Record, row.to_pylist()[0])
    except UnicodeDecodeError:
        return RowError("not UTF-8")
    except _NO_VALUE as error:
        return RowError("not readable", str(error))
