"""Predictions in files: the competition's CSV, and the log loss against its solution file."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pyarrow import csv

from tiebreak.data.votes import LABELS
from tiebreak.errors import TiebreakError
from tiebreak.evaluate.metrics import Array, log_loss

COLUMNS = ("winner_model_a", "winner_model_b", "winner_tie")
PARTS = tuple(f"p_{label}" for label in LABELS)


def write(ids: Sequence[str], p_NC: NDArray[np.floating], path: Path) -> None:
    """Write id and COLUMNS, under a temporary name first."""
    columns = {"id": pa.array(ids, pa.string())} | {name: p_NC[:, c] for c, name in enumerate(COLUMNS)}
    partial = path.with_name(path.name + ".partial")
    csv.write_csv(pa.table(columns), partial, csv.WriteOptions(quoting_style="needed", quoting_header="none"))
    partial.replace(path)


def read(path: Path) -> tuple[list[str], Array]:
    """Ids and numbers (n, 3) of a CSV or Parquet file with id and COLUMNS, or id and PARTS.

    Raises TiebreakError for missing columns, an id that comes twice, or numbers that cannot be probabilities
    before division by their sum.
    """
    table = _table(path)
    columns = next((names for names in (COLUMNS, PARTS) if {*names} <= {*table.column_names}), None)
    if columns is None or "id" not in table.column_names:
        raise TiebreakError(
            f"{path} has the columns {', '.join(table.column_names) or 'none'}; "
            f"needed are id and {', '.join(COLUMNS)} (or {', '.join(PARTS)})"
        )
    ids = table["id"].cast(pa.string()).to_pylist()
    if twice := [vote for vote, count in Counter(ids).items() if count > 1]:
        raise TiebreakError(f"{path}: id {twice[0]!r} comes more than once")
    try:
        x_NC = np.stack([table[column].cast(pa.float64()).to_numpy() for column in columns], axis=1)
    except pa.ArrowInvalid as error:
        raise TiebreakError(f"{path}: {', '.join(columns)} must be numbers ({error})") from None
    wrong = ~(np.isfinite(x_NC).all(axis=1) & (x_NC >= 0).all(axis=1) & (x_NC.sum(axis=1) > 0))
    if wrong.any():
        row = int(wrong.argmax())
        raise TiebreakError(f"{path}: id {ids[row]!r} has no probabilities but {x_NC[row].tolist()}")
    return ids, x_NC


def is_solution(path: Path) -> bool:
    """Does a file hold ids and labels alone, without the texts of votes?"""
    columns = set(_header(path))
    return (
        "id" in columns and "prompt" not in columns and any({*names} <= columns for names in (COLUMNS, PARTS))
    )


def _header(path: Path) -> list[str]:
    if _is_parquet(path):
        return list(pq.read_schema(path).names)
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        return [name.strip().strip('"') for name in file.readline().split(",")]


def _table(path: Path) -> pa.Table:
    """A CSV or Parquet file, told apart by content."""
    if not path.is_file():
        raise TiebreakError(f"no file at {path}; expected CSV or Parquet with id, {', '.join(COLUMNS)}")
    try:
        if _is_parquet(path):
            return pq.read_table(path)
        return csv.read_csv(path, convert_options=csv.ConvertOptions(column_types={"id": pa.string()}))
    except pa.ArrowInvalid as error:
        raise TiebreakError(f"{path} cannot be read: {error}") from None


def _is_parquet(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"PAR1"


def leaderboard_log_loss(submission: Path, solution: Path) -> float:
    """The log loss of a submission against a solution; both must hold the same ids, each once.

    As the competition does, each row is divided by its sum. Raises TiebreakError where the ids differ or a
    label is no probability.
    """
    ids, p_NC = read(submission)
    solved, y_NC = read(solution)
    if unequal := set(ids) ^ set(solved):
        example = min(unequal)
        where = f"{submission} only" if example in set(ids) else f"{solution} only"
        raise TiebreakError(f"{len(unequal)} ids are in one file only, such as {example!r}, in {where}")
    if not ids:
        raise TiebreakError(f"{submission} has no rows")
    position = {vote: n for n, vote in enumerate(ids)}
    p_NC = p_NC[[position[vote] for vote in solved]]
    try:
        return log_loss(p_NC / p_NC.sum(axis=1, keepdims=True), y_NC)
    except ValueError as error:
        raise TiebreakError(f"{solution}: {error}") from None
