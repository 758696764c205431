"""The competition's CSV, and the log loss against its solution file."""

import csv
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tiebreak.errors import TiebreakError
from tiebreak.evaluate.metrics import log_loss

COLUMNS = ("winner_model_a", "winner_model_b", "winner_tie")


def write(ids: Sequence[str], p_NC: NDArray[np.floating], path: Path) -> None:
    """Write id and COLUMNS, under a temporary name first."""
    partial = path.with_name(path.name + ".partial")
    with partial.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["id", *COLUMNS])
        writer.writerows([vote, *p_C] for vote, p_C in zip(ids, p_NC.tolist(), strict=True))
    partial.replace(path)


def read(path: Path) -> tuple[list[str], NDArray[np.float64]]:
    """Ids and numbers (n, 3) of a submission or solution file.

    Raises TiebreakError for missing columns, an id that comes twice, or numbers that cannot be probabilities
    before division by their sum.
    """
    if not path.is_file():
        raise TiebreakError(f"no file at {path}; expected a CSV with columns id, {', '.join(COLUMNS)}")
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        columns = reader.fieldnames or []
        if missing := [column for column in ("id", *COLUMNS) if column not in columns]:
            raise TiebreakError(
                f"{path} lacks {', '.join(missing)}; it has {', '.join(columns) or 'no columns'}"
            )
        rows = list(reader)
    ids = [row["id"] for row in rows]
    if twice := [vote for vote, count in Counter(ids).items() if count > 1]:
        raise TiebreakError(f"{path}: id {twice[0]!r} comes more than once")
    try:
        x_NC = np.array([[float(row[column]) for column in COLUMNS] for row in rows]).reshape(-1, 3)
    except (ValueError, TypeError) as error:
        raise TiebreakError(f"{path}: {', '.join(COLUMNS)} must be numbers ({error})") from None
    wrong = ~(np.isfinite(x_NC).all(axis=1) & (x_NC >= 0).all(axis=1) & (x_NC.sum(axis=1) > 0))
    if wrong.any():
        row = int(wrong.argmax())
        raise TiebreakError(f"{path}: id {ids[row]!r} has no probabilities but {x_NC[row].tolist()}")
    return ids, x_NC


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
