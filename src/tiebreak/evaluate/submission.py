"""Files of predictions: the competition's CSV, and the log loss against its solution file."""

import math
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import csv

from tiebreak.errors import TiebreakError
from tiebreak.output import replacing
from tiebreak.stats.metrics import Array, log_loss
from tiebreak.votes.formats import containers, pairs
from tiebreak.votes.formats.dialog import RowError
from tiebreak.votes.formats.mapping import NO_MAP, ColumnMap
from tiebreak.votes.formats.record_formats import detect_format
from tiebreak.votes.schema import LABELS, swap_answers

COLUMNS = ("winner_model_a", "winner_model_b", "winner_tie")
PROBABILITY_COLUMNS = tuple(f"p_{label}" for label in LABELS)
PREFERENCE_COLUMNS = ("p_chosen", "p_rejected", "p_tie")
_KINDS = (PROBABILITY_COLUMNS, PREFERENCE_COLUMNS, COLUMNS)
"""What holds the numbers, the first that is there: predictions may stand beside the votes' own labels."""
_COLUMNS_READ = ("id", "prompt", *dict.fromkeys(name for kind in _KINDS for name in kind))


def write(ids: Sequence[str], p_NC: NDArray[np.floating], path: Path) -> None:
    """Write id and COLUMNS, atomically."""
    columns = {"id": pa.array(ids, pa.string())} | {name: p_NC[:, c] for c, name in enumerate(COLUMNS)}
    options = csv.WriteOptions(quoting_style="needed", quoting_header="none")
    with replacing(path) as file:
        csv.write_csv(pa.table(columns), file, options)


def read(path: Path, mapping: ColumnMap = NO_MAP) -> tuple[list[str], Array]:
    """Read ids and numbers (n, 3) of a file of any format with COLUMNS or PROBABILITY_COLUMNS, and with id or texts.

    Where it has texts and no ids, those are as readers make them. PREFERENCE_COLUMNS are turned to the sides that readers
    show `chosen` and `rejected` on.
    Raises TiebreakError for a row that cannot be read, missing columns, a duplicate id, or numbers that
    cannot be probabilities before division by their sum.
    """
    if not path.is_file():
        raise TiebreakError(f"no file at {path}; expected CSV or Parquet with id, {', '.join(COLUMNS)}")
    columns: tuple[str, ...] = ()
    ids: list[str] = []
    swapped: list[bool] = []
    numbers: list[list[float]] = []
    for name, record, is_swapped in _rows(path, mapping):
        columns = columns or _columns(path, record, mapping)
        ids.append(name)
        swapped.append(is_swapped)
        numbers.append([_number(path, name, record, column) for column in columns])
    if not ids:
        raise TiebreakError(f"{path} has no rows; expected are id and {', '.join(COLUMNS)}")
    if twice := [vote for vote, count in Counter(ids).items() if count > 1]:
        raise TiebreakError(f"{path}: id {twice[0]!r} comes more than once")
    x_NC = np.array(numbers)
    wrong = ~(np.isfinite(x_NC).all(axis=1) & (x_NC >= 0).all(axis=1) & (x_NC.sum(axis=1) > 0))
    if wrong.any():
        row = int(wrong.argmax())
        raise TiebreakError(f"{path}: id {ids[row]!r} has no probabilities but {x_NC[row].tolist()}")
    if columns == PREFERENCE_COLUMNS:
        x_NC = swap_answers(x_NC, swapped)
    return ids, x_NC


def _rows(path: Path, mapping: ColumnMap) -> Iterator[tuple[str, Mapping[str, Any], bool]]:
    """The id of each row, its record, and whether its texts are `rejected` and `chosen`, in this order.

    Texts are read only where ids are made of them, or sides depend on them.
    """
    first = next((record for _, record in containers.records(path, _COLUMNS_READ)), {})
    if (
        isinstance(first, dict)
        and first
        and ("id" not in first or _number_columns(first) == PREFERENCE_COLUMNS)
    ):
        _columns(path, first, mapping)
        for pair, vote in pairs.read_whole(path, mapping):
            yield str(pair.record["id"]) if "id" in pair.record else vote.id or "", pair.record, pair.swapped
        return
    for row, record in containers.records(path, _COLUMNS_READ):
        if isinstance(record, RowError):
            raise TiebreakError(f"{path} cannot be read, row {row}: {record}")
        yield str(record.get("id")), record, False


def is_solution(path: Path, mapping: ColumnMap = NO_MAP) -> bool:
    """True for a file of ids and labels without the texts of votes; False for one without rows."""
    rows = (record for _, record in containers.records(path) if isinstance(record, dict))
    found = next(rows, {})
    return (
        "id" in found
        and _number_columns(found) is not None
        and detect_format([found], False, mapping) is None
    )


def _number_columns(found: Collection[str]) -> tuple[str, ...] | None:
    """The names of the three number columns; None if they are missing."""
    return next((names for names in _KINDS if {*names} <= {*found}), None)


def _columns(path: Path, record: Mapping[str, Any], mapping: ColumnMap) -> tuple[str, ...]:
    columns = _number_columns(record)
    if columns is None or ("id" not in record and not _has_texts(path, mapping)):
        raise TiebreakError(
            f"{path} has the columns {', '.join(record) or 'none'}; "
            f"needed are id and {', '.join(COLUMNS)} (or {', '.join(PROBABILITY_COLUMNS)})"
        )
    return columns


def _has_texts(path: Path, mapping: ColumnMap) -> bool:
    """True for a file of pairs."""
    first = next((record for _, record in containers.records(path) if isinstance(record, dict)), {})
    return detect_format([first], False, mapping) is not None


def _number(path: Path, vote: str, record: Mapping[str, Any], column: str) -> float:
    """A number of a row, NaN where it is missing."""
    value = record.get(column)
    try:
        return math.nan if value in (None, "") else float(value)
    except (TypeError, ValueError, OverflowError):
        raise TiebreakError(f"{path}: {column} of id {vote!r} must be a number, not {value!r:.40}") from None


def leaderboard_log_loss(submission: Path, solution: Path) -> float:
    """The log loss of a submission against a solution; both must hold the same ids, each once.

    As in the competition, each row is divided by its sum. Raises TiebreakError where the ids differ or a
    label is no probability.
    """
    ids, p_NC = read(submission)
    solution_ids, y_NC = read(solution)
    if different := set(ids) ^ set(solution_ids):
        example = min(different)
        where = f"{submission} only" if example in set(ids) else f"{solution} only"
        raise TiebreakError(f"{len(different)} ids are in one file only, such as {example!r}, in {where}")
    position = {vote: n for n, vote in enumerate(ids)}
    p_NC = p_NC[[position[vote] for vote in solution_ids]]
    try:
        return log_loss(p_NC / p_NC.sum(axis=1, keepdims=True), y_NC)
    except ValueError as error:
        raise TiebreakError(f"{solution}: {error}") from None
