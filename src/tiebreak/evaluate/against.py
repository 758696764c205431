"""Predictions in a file against labels in another: what `tiebreak evaluate` prints."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from tiebreak.data import readers
from tiebreak.data.votes import LABELS
from tiebreak.errors import TiebreakError
from tiebreak.evaluate import submission
from tiebreak.evaluate.metrics import Array, Bootstrap, Estimate, summarise

PARTS = tuple(f"p_{label}" for label in LABELS)


def against(predictions: Path, labels: Path, bootstrap: Bootstrap) -> tuple[int, dict[str, Estimate]]:
    """How many votes were compared, and their metrics with intervals.

    predictions: CSV as in the competition, or Parquet with id, p_a, p_b, p_tie. labels: the same, or any file
    of votes. Raises TiebreakError where a file cannot be read or not every labelled id has a prediction.
    """
    ids, p_NC = _probabilities(predictions)
    labelled, y_NC = _labels(labels)
    position = {vote: n for n, vote in enumerate(ids)}
    if missing := [vote for vote in labelled if vote not in position]:
        raise TiebreakError(
            f"{len(missing)} of {len(labelled)} labelled ids have no prediction in {predictions}, "
            f"such as {missing[0]!r}"
        )
    if not labelled:
        raise TiebreakError(f"{labels} has no labelled votes")
    p_NC = p_NC[[position[vote] for vote in labelled]]
    p_NC = p_NC / p_NC.sum(axis=1, keepdims=True)
    return len(labelled), summarise([p_NC], y_NC / y_NC.sum(axis=1, keepdims=True), bootstrap)


def _probabilities(path: Path) -> tuple[list[str], Array]:
    """Ids and probabilities (n, 3) of a file of predictions."""
    if path.suffix != ".parquet":
        return submission.read(path)
    if not path.is_file():
        raise TiebreakError(f"no file of predictions at {path}")
    columns = pq.read_schema(path).names
    if missing := [column for column in ("id", *PARTS) if column not in columns]:
        raise TiebreakError(f"{path} lacks {', '.join(missing)}; it has {', '.join(columns)}")
    table = pq.read_table(path)
    return table["id"].to_pylist(), np.stack([table[part].to_numpy() for part in PARTS], axis=1).astype(float)


def _labels(path: Path) -> tuple[list[str], Array]:
    """Ids and soft labels (n, 3) of a solution file or of any file of votes."""
    if path.suffix == ".csv" and path.is_file():
        with path.open(encoding="utf-8-sig") as file:
            if set(file.readline().strip().split(",")) == {"id", *submission.COLUMNS}:
                return submission.read(path)
    votes, _ = readers.read_all([path])
    return votes["id"].to_pylist(), np.stack([votes[part].to_numpy() for part in PARTS], axis=1).astype(float)
