"""Files of rows, by their ending: JSON Lines, CSV or Parquet. Rows are dicts, which need not have the same keys.

Written from rows that can be iterated twice: the second pass is for those whose columns, or types, the first rows do not show.
"""

import base64
import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from tiebreak.output import replacing
from tiebreak.votes.formats.text_lines import damaged

Row = Mapping[str, Any]
Rows = Callable[[], Iterable[Row]]
"""A function that gives the rows from the first one on."""

SUFFIXES = (".jsonl", ".csv", ".parquet")
_BATCH = 2048
_ENCODED = (list, dict, bool)
"""What is JSON in a cell of CSV."""
_Types = dict[str, pa.DataType | None]
Columns = TypeVar("Columns", list[str], _Types)


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
                _write_batches(rows, file, partial(_names, last=last), [], _write_csv)
            case _:
                grow, write = partial(_types, known=known), partial(_write_parquet, known=known, last=last)
                _write_batches(rows, file, grow, {}, write)


def json_line(row: Row) -> bytes:
    """A row as a line of JSON in UTF-8. Values that JSON lacks become text, NaN and infinities null."""
    return _json(row).encode() + b"\n"


def _json(value: Any) -> str:
    try:
        text = _ENCODER.encode(value)
    except ValueError:
        numbers = json.dumps(value, default=_text)
        text = json.dumps(json.loads(numbers, parse_constant=lambda _: None), ensure_ascii=False)
    return json.dumps(json.loads(text)) if damaged(text) else text


def _text(value: Any) -> str:
    return base64.b64encode(value).decode() if isinstance(value, bytes) else str(value)


_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, default=_text)


def _in_order(names: Iterable[str], last: Sequence[str]) -> list[str]:
    """The names in the order in which they come, but for those that come last."""
    return sorted(names, key=lambda name: last.index(name) + 1 if name in last else 0)


def _write_batches(
    rows: Rows,
    file: BinaryIO,
    grow: Callable[[Columns, Sequence[Row]], Columns],
    nothing: Columns,
    write: Callable[[Iterable[Sequence[Row]], BinaryIO, Columns], None],
) -> None:
    """Write rows in the columns of all. If later batches make those of the first one grow, it is begun again."""
    batches = _batches(rows())
    first = next(batches, [])
    columns = found = grow(nothing, first)

    def alike() -> Iterator[Sequence[Row]]:
        nonlocal found
        yield first
        for batch in batches:
            found = grow(found, batch)
            if found == columns:
                yield batch

    write(alike(), file, columns)
    if found != columns:
        file.seek(0)
        file.truncate()
        write(_batches(rows()), file, found)


def _write_csv(batches: Iterable[Sequence[Row]], file: BinaryIO, names: Sequence[str]) -> None:
    text = io.TextIOWrapper(file, encoding="utf-8", errors="replace", newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    writer.writerows(_cells(row, names) for batch in batches for row in batch)
    text.flush()
    text.detach()


def _names(found: Sequence[str], batch: Sequence[Row], last: Sequence[str]) -> list[str]:
    return _in_order(dict.fromkeys(chain(found, *batch)), last)


def _cells(row: Row, names: Sequence[str]) -> list[Any]:
    return [_json(value) if isinstance(value, _ENCODED) else value for value in map(row.get, names)]


def _write_parquet(
    batches: Iterable[Sequence[Row]],
    file: BinaryIO,
    types: _Types,
    known: pa.Schema | None,
    last: Sequence[str],
) -> None:
    fields = [_field(name, types[name]) for name in _in_order(types, last)]
    schema = pa.schema(fields, metadata=known.metadata if known is not None else None)
    encoded = {name for name, kind in types.items() if kind is None}
    with pq.ParquetWriter(file, schema, compression="zstd") as writer:
        for batch in filter(None, batches):
            plain = [_encoded(row, encoded) for row in batch] if encoded else batch
            writer.write_table(pa.Table.from_pylist(plain, schema=schema))


def _types(found: _Types, batch: Sequence[Row], known: pa.Schema | None) -> _Types:
    """The columns in the order in which they come, with a type that holds all values: None if they have no common one."""
    types = dict(found)
    given = {field.name: field.type for field in known or ()}
    for name in dict.fromkeys(chain(*batch)):
        if name in given:
            types[name] = given[name]
        else:
            kind = _type_of([row.get(name) for row in batch])
            types[name] = _wider(types.get(name, pa.null()), kind)
    return types


def _encoded(row: Row, names: Iterable[str]) -> dict[str, Any]:
    return dict(row) | {name: _as_json(row[name]) for name in names if row.get(name) is not None}


def _as_json(value: Any) -> str:
    return value if isinstance(value, str) else _json(value)


def _batches(rows: Iterable[Row]) -> Iterator[list[Row]]:
    iterator = iter(rows)
    while batch := list(islice(iterator, _BATCH)):
        yield batch


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
