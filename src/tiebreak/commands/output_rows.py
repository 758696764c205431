"""Rows of predictions: the columns of the records they come from, and the probabilities behind them."""

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from tiebreak.evaluate.submission import COLUMNS, PREFERENCE_COLUMNS, PROBABILITY_COLUMNS
from tiebreak.votes.formats.pairs import Pair
from tiebreak.votes.parquet import opened
from tiebreak.votes.schema import LABELS

if TYPE_CHECKING:
    from tiebreak.stats.metrics import Array

DECISION = "decision"
ERROR = "error"
ADDED = tuple(dict.fromkeys((*PROBABILITY_COLUMNS[:2], *PREFERENCE_COLUMNS, DECISION, ERROR)))
"""The columns that predictions may have, in their order."""


PREFERENCES = ("chosen", "rejected", "tie")
"""The decisions where answers are chosen and rejected ones; LABELS elsewhere."""


def output_rows(
    piece: Sequence[Pair],
    p_NC: "Array",
    reasons: Sequence[str | None],
    kaggle: bool = False,
    errors: bool = False,
    certain_from: float | None = None,
) -> Iterator[dict[str, Any]]:
    """The rows of a piece: all columns of the records, then the probabilities (N, 3) of their own sides.

    reasons: why a record is no pair, whose probabilities are null. Of the pairs only `record` and `preference` are looked at,
    for a submission `id` too. Columns of the records that have the name of one that is added are called `given_...`. errors: every row has the column
    `error`, not only those without a pair. certain_from: every row has the column `decision`, null below that certainty.
    """
    from tiebreak.stats.guarantees import decisions

    decided = [None] * len(piece) if certain_from is None else decisions(p_NC, certain_from)
    for pair, p_C, reason, choice in zip(piece, p_NC.tolist(), reasons, decided, strict=True):
        values = p_C if reason is None else [None] * len(LABELS)
        if kaggle:
            yield {"id": pair.id} | dict(zip(COLUMNS, values, strict=True))
            continue
        names = PREFERENCE_COLUMNS if pair.preference else PROBABILITY_COLUMNS
        added = dict(zip(names, values, strict=True))
        if certain_from is not None:
            added[DECISION] = None if choice is None else (PREFERENCES if pair.preference else LABELS)[choice]
        if errors or reason is not None:
            added[ERROR] = reason
        yield own_columns(pair.record, ADDED) | added


def own_columns(record: Mapping[str, Any], added: tuple[str, ...]) -> dict[str, Any]:
    """A record under the names that its columns have in the output."""
    if record.keys().isdisjoint(added):
        return {**record}
    return dict(zip(own_names(tuple(record), added), record.values(), strict=True))


@lru_cache
def own_names(names: tuple[str, ...], added: tuple[str, ...]) -> tuple[str, ...]:
    """The name of each of a record's own columns in the output: none of those that are added, no other's."""
    found = {name: name for name in names}
    for name in found.keys() & set(added):
        while found[name] in added or found[name] in found.keys() - {name}:
            found[name] = f"given_{found[name]}"
    return tuple(found.values())


def own_types(files: Sequence[Path], added: tuple[str, ...]) -> pa.Schema | None:
    """The types of the records' own columns where all files are Parquet and agree on them."""
    try:
        schema = pa.unify_schemas([pq.read_schema(opened(path)) for path in files])
        names = own_names(tuple(schema.names), added)
        return pa.schema([column.with_name(name) for column, name in zip(schema, names, strict=True)])
    except (pa.ArrowException, OSError):
        return None
