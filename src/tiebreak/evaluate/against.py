"""Predictions in files against labels in another: what `tiebreak evaluate` prints."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tiebreak.data import readers
from tiebreak.data.votes import prompt_numbers
from tiebreak.errors import TiebreakError
from tiebreak.evaluate import submission
from tiebreak.evaluate.blend import PROMPTS_TO_FIT, WEIGHTINGS, best_weights, shares, weighted
from tiebreak.evaluate.metrics import Array, Bootstrap, Estimate, difference, summarise
from tiebreak.evaluate.selection import nested


@dataclass(frozen=True)
class Scored:
    """Predictions of one file or of a blend: METRICS with intervals.

    Where there are several files, `metrics` also has log_loss_change, the paired difference from the first.
    weights: of the files in a blend; None for one file.
    """

    name: str
    rows: int
    metrics: dict[str, Estimate]
    weights: tuple[float, ...] | None = None


def against(
    predictions: Sequence[Path], labels: Path, bootstrap: Bootstrap, weights: Sequence[float] | None = None
) -> list[Scored]:
    """Each file of predictions, and of several their blends: with equal weights, with `weights` where given,
    and with weights chosen and fitted by nested cross-validation, each vote by weights that its prompt had no
    part in. The weights shown for the last are fitted on all votes; it needs PROMPTS_TO_FIT prompts.

    predictions: what `submission.read` takes. labels: the same, or any file of votes; of votes those with the
    same prompt are resampled together. Raises TiebreakError where a file cannot be read or not every labelled
    id has a prediction.
    """
    labelled, y_NC, groups_N = _labels(labels)
    if not labelled:
        raise TiebreakError(f"{labels} has no labelled votes")
    y_NC = _normalised(y_NC)
    x_NMC = np.stack([_aligned(path, labelled) for path in predictions], axis=1)
    given = None if weights is None else shares(weights, len(predictions))
    found: list[Scored] = []
    for name, p_NC, weights_M in _arms(predictions, x_NMC, y_NC, groups_N, given):
        metrics = summarise([p_NC], y_NC, bootstrap, groups_N)
        if found:
            change = difference([p_NC], [x_NMC[:, 0]], y_NC, bootstrap, groups_N)
            metrics["log_loss_change"] = change
        shown = None if weights_M is None else tuple(weights_M.tolist())
        found.append(Scored(name, len(labelled), metrics, shown))
    return found


def _arms(
    files: Sequence[Path], x_NMC: Array, y_NC: Array, groups_N: NDArray[np.int64] | None, given: Array | None
) -> Iterator[tuple[str, Array, Array | None]]:
    """Name, probabilities (n, 3) and weights of each file, then of each blend."""
    for m, path in enumerate(files):
        yield str(path), x_NMC[:, m], None
    if len(files) == 1:
        return
    equal_M = shares(None, len(files))
    yield "blend, equal weights", weighted(equal_M, x_NMC), equal_M
    if given is not None:
        yield "blend, weights given", weighted(given, x_NMC), given
    prompts_N = np.arange(len(y_NC)) if groups_N is None else groups_N
    if len(np.unique(prompts_N)) >= PROMPTS_TO_FIT:
        p_NC = nested(WEIGHTINGS, x_NMC, y_NC, prompts_N).predictions
        yield "blend, weights by nested CV", p_NC, best_weights(x_NMC, y_NC, prompts_N)


def _aligned(path: Path, labelled: Sequence[str]) -> Array:
    """The probabilities (n, 3) that a file gives the labelled ids, in their order."""
    ids, p_NC = submission.read(path)
    position = {vote: n for n, vote in enumerate(ids)}
    if missing := [vote for vote in labelled if vote not in position]:
        raise TiebreakError(
            f"{len(missing)} of {len(labelled)} labelled ids have no prediction in {path}, "
            f"such as {missing[0]!r}"
        )
    return _normalised(p_NC[[position[vote] for vote in labelled]])


def _labels(path: Path) -> tuple[list[str], Array, NDArray[np.int64] | None]:
    """Ids, soft labels (n, 3) and prompt groups (n,) of a file of votes; of a solution without groups."""
    if path.is_file() and submission.is_solution(path):
        return *submission.read(path), None
    votes, _ = readers.read_all([path])
    y_NC = np.stack([votes[part].to_numpy() for part in submission.PARTS], axis=1).astype(np.float64)
    return votes["id"].to_pylist(), y_NC, prompt_numbers(votes)


def _normalised(x_NC: Array) -> Array:
    normalised: Array = x_NC / x_NC.sum(axis=1, keepdims=True)
    return normalised
