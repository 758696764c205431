"""Files of rows, by their ending: JSON Lines, CSV or Parquet. Rows are dicts, which need not have the same keys.

Written from rows that can be iterated twice: the first pass finds the columns and their types.
"""

import base64
import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from tiebreak.output import replacing

Row = Mapping[str, Any]
Rows = Callable[[], Iterable[Row]]
"""A function that gives the rows from the first one on."""

SUFFIXES = (".jsonl", ".csv", ".parquet")
_BATCH = 2048


def write(rows: Rows, path: Path, known: pa.Schema | None = None, last: Sequence[str] = ()) -> None:
    """Write rows to a file whose ending is one of SUFFIXES, atomically.

    known: types of columns, such as those of the Parquet file that they come from, and metadata for Parquet. last: columns
    that come after those that only later rows have.
    """
    with replacing(path) as file:
        match path.suffix:
            case ".jsonl":
                file.writelines(map(json_line, rows()))
            case ".csv":
                _write_csv(rows, file, last)
            case _:
                _write_parquet(rows, file, known, last)


def json_line(row: Row) -> bytes:
    """A row as a line of JSON in UTF-8. Values that JSON lacks become text, NaN and infinities null."""
    return _json(row).encode() + b"\n"


def _json(value: Any) -> str:
    try:
        text = _ENCODER.encode(value)
    except ValueError:
        numbers = json.dumps(value, default=_text)
        text = json.dumps(json.loads(numbers, parse_constant=lambda _: None), ensure_ascii=False)
    return text if _encodes(text) else json.dumps(json.loads(text))


def _text(value: Any) -> str:
    return base64.b64encode(value).decode() if isinstance(value, bytes) else str(value)


_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, default=_text)


def _encodes(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # half of a surrogate pair, which "\ud800" may bring
        return False
    return True


def _in_order(names: Iterable[str], last: Sequence[str]) -> list[str]:
    """The names in the order in which they come, but for those that come last."""
    return sorted(names, key=lambda name: last.index(name) + 1 if name in last else 0)


def _write_csv(rows: Rows, file: BinaryIO, last: Sequence[str]) -> None:
    names = _in_order(dict.fromkeys(name for row in rows() for name in row), last)
    text = io.TextIOWrapper(file, encoding="utf-8", errors="replace", newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    writer.writerows([_cell(row.get(name)) for name in names] for row in rows())
    text.flush()
    text.detach()


def _cell(value: Any) -> Any:
    return _json(value) if isinstance(value, list | dict | bool) else value


def _write_parquet(rows: Rows, file: BinaryIO, known: pa.Schema | None, last: Sequence[str]) -> None:
    schema = _schema(rows, known, last)
    encoded = {field.name for field in schema if (field.metadata or {}).get(b"encoding") == b"json"}
    with pq.ParquetWriter(file, schema, compression="zstd") as writer:
        for batch in _batches(rows()):
            plain = [_encoded(row, encoded) for row in batch] if encoded else batch
            writer.write_table(pa.Table.from_pylist(plain, schema=schema))


def _encoded(row: Row, names: Iterable[str]) -> dict[str, Any]:
    return dict(row) | {name: _as_json(row[name]) for name in names if row.get(name) is not None}


def _as_json(value: Any) -> str:
    return value if isinstance(value, str) else _json(value)


def _batches(rows: Iterable[Row]) -> Iterator[list[Row]]:
    iterator = iter(rows)
    while batch := list(islice(iterator, _BATCH)):
        yield batch


def _schema(rows: Rows, known: pa.Schema | None, last: Sequence[str]) -> pa.Schema:
    """The columns in the order in which they come, with a type that holds all values: text if they have no other."""
    types: dict[str, pa.DataType | None] = {}
    given = {field.name: field.type for field in known or ()}
    for batch in _batches(rows()):
        for name in dict.fromkeys(name for row in batch for name in row):
            if name in given:
                types[name] = given[name]
                continue
            values = [row.get(name) for row in batch]
            types[name] = _wider(types.get(name, pa.null()), _type_of(values))
    fields = [_field(name, types[name]) for name in _in_order(types, last)]
    return pa.schema(fields, metadata=known.metadata if known is not None else None)


def _type_of(values: Sequence[Any]) -> pa.DataType | None:
    """The type of a column, None if its values have no common one."""
    try:
        return pa.array(values).type
    except (pa.ArrowException, OverflowError, TypeError, ValueError):
        return None


def _wider(one: pa.DataType | None, other: pa.DataType | None) -> pa.DataType | None:
    if one is None or other is None:
        return None
    try:
        fields = [pa.schema([("x", kind)]) for kind in (one, other)]
        return pa.unify_schemas(fields, promote_options="permissive").field("x").type
    except pa.ArrowException:
        return None


def _field(name: str, kind: pa.DataType | None) -> pa.Field:
    if kind is None:
        return pa.field(name, pa.string(), metadata={"encoding": "json"})
    return pa.field(name, pa.string() if pa.types.is_null(kind) else kind)
