"""Predictions in files against labels in another: what `tiebreak evaluate` prints."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tiebreak.data import readers
from tiebreak.errors import TiebreakError
from tiebreak.evaluate import submission
from tiebreak.evaluate.metrics import Array, Bootstrap, Estimate, summarise


def against(predictions: Path, labels: Path, bootstrap: Bootstrap) -> tuple[int, dict[str, Estimate]]:
    """How many votes were compared, and their metrics with intervals.

    predictions: what `submission.read` takes. labels: the same, or any file of votes; of votes those with the
    same prompt are resampled together. Raises TiebreakError where a file cannot be read or not every labelled
    id has a prediction.
    """
    ids, p_NC = submission.read(predictions)
    labelled, y_NC, groups_N = _labels(labels)
    if not labelled:
        raise TiebreakError(f"{labels} has no labelled votes")
    position = {vote: n for n, vote in enumerate(ids)}
    if missing := [vote for vote in labelled if vote not in position]:
        raise TiebreakError(
            f"{len(missing)} of {len(labelled)} labelled ids have no prediction in {predictions}, "
            f"such as {missing[0]!r}"
        )
    p_NC = _normalised(p_NC[[position[vote] for vote in labelled]])
    return len(labelled), summarise([p_NC], _normalised(y_NC), bootstrap, groups_N)


def _labels(path: Path) -> tuple[list[str], Array, NDArray[np.int64] | None]:
    """Ids, soft labels (n, 3) and prompt groups (n,) of a file of votes; of a solution without groups."""
    if path.is_file() and submission.is_solution(path):
        return *submission.read(path), None
    votes, _ = readers.read_all([path])
    y_NC = np.stack([votes[part].to_numpy() for part in submission.PARTS], axis=1).astype(np.float64)
    prompts = ["\n".join(turn or "" for turn in turns) for turns in votes["prompt"].to_pylist()]
    return votes["id"].to_pylist(), y_NC, np.unique(prompts, return_inverse=True)[1]


def _normalised(x_NC: Array) -> Array:
    normalised: Array = x_NC / x_NC.sum(axis=1, keepdims=True)
    return normalised
