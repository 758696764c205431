"""Comparison of models and files of predictions on labelled votes, as by `tiebreak evaluate`."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tiebreak.errors import TiebreakError
from tiebreak.evaluate import submission
from tiebreak.evaluate.bias import slices_by_kind
from tiebreak.evaluate.variants import LabelledVotes
from tiebreak.evaluate.verdict import Verdict, build_verdict
from tiebreak.judge.location import hub_name
from tiebreak.stats.blend import PROMPTS_TO_FIT, WEIGHTINGS, best_weights, shares, weighted
from tiebreak.stats.calibration_test import CalibrationError, calibration_error, calibration_test
from tiebreak.stats.metrics import Array, Bootstrap, Estimate, difference, prior_prediction, summarise
from tiebreak.stats.nested_cv import nested
from tiebreak.votes.formats import readers
from tiebreak.votes.formats.mapping import NO_MAP, ColumnMap
from tiebreak.votes.near_duplicates import prompt_groups
from tiebreak.votes.schema import probabilities

SUM_TOLERANCE = 0.02
"""Probabilities rounded to two digits add up to 1 within this; they are scaled to 1, as the competition does."""

CLASS_SHARES = "class shares of these votes"

PredictFn = Callable[[Sequence[Path], pa.Table], Array]
"""Function from models and votes (votes.schema.SCHEMA) to predictions (n, models, 3)."""


@dataclass(frozen=True)
class PredictionScores:
    """Scores of one model, one file or one blend: METRICS with intervals.

    With several, `metrics` also has log_loss_change, the paired difference from the first, and all but the class
    shares have change_from_shares. calibrated: the p-value of the calibration test. weights: of a blend's members,
    None for no blend. verdict: None for the class shares.
    """

    name: str
    rows: int
    metrics: dict[str, Estimate]
    ece: CalibrationError
    calibrated: float | None
    weights: tuple[float, ...] | None = None
    verdict: Verdict | None = None

    def figures(self) -> dict[str, dict[str, Any]]:
        """Value, low and high of every metric; those of calibration have no interval."""
        of_ece = asdict(self.ece)
        plain = {
            "ece": of_ece.pop("value"),
            **{f"ece_{name}": value for name, value in of_ece.items()},
            "calibration_p": self.calibrated,
        }
        scores = {name: asdict(estimate) for name, estimate in self.metrics.items()}
        return scores | {name: {"value": value, "low": None, "high": None} for name, value in plain.items()}


@dataclass(frozen=True)
class _Labels:
    """Soft labels (n, 3), with prompt groups (n,) and texts for a file of votes, without for a solution."""

    path: Path
    ids: list[str]
    y_NC: Array
    groups_N: NDArray[np.int64] | None = None
    votes: pa.Table | None = None


def compare_predictions(
    predictions: Sequence[Path],
    labels: Path,
    bootstrap: Bootstrap,
    weights: Sequence[float] | None = None,
    predict: PredictFn | None = None,
    mapping: ColumnMap = NO_MAP,
) -> list[PredictionScores]:
    """Score each model and file of predictions, and the blends of several.

    Blends: equal weights, `weights` if given, and weights chosen and fitted by nested cross-validation over prompts.
    The weights reported for the last are fitted on all votes; it needs PROMPTS_TO_FIT prompts. The class shares of
    these labels come last, a constant prediction fitted on the very labels.

    predictions: files for `submission.read` and, with `predict`, folders of models and recipes.
    labels: a file as for predictions or, needed for models, any file of votes; votes with near-duplicate
    prompts are resampled together. mapping: of the columns of all these files. Raises TiebreakError where a file or one of its rows cannot be read, not
    every labelled id has a prediction, or models are given labels without texts.
    """
    labelled = _read_labels(labels, mapping)
    if not labelled.ids:
        raise TiebreakError(f"{labels} has no labelled votes")
    given_M = None if weights is None else shares(weights, len(predictions))
    x_NMC = _read_predictions(predictions, labelled, predict, mapping)
    shares_C = labelled.y_NC.mean(axis=0)
    shares_NC = prior_prediction(shares_C, len(labelled.ids))
    scores: list[PredictionScores] = []
    for name, p_NC, weights_M in _predictions_and_blends(predictions, x_NMC, labelled, given_M):
        more = {"log_loss_change": x_NMC[:, 0]} if scores else {}
        metrics = _changes(p_NC, more | {"change_from_shares": shares_NC}, labelled, bootstrap)
        verdict = _verdict(p_NC, shares_C, labelled, bootstrap)
        scores.append(_score(name, p_NC, metrics, labelled, bootstrap, weights_M, verdict))
    more = {"log_loss_change": x_NMC[:, 0]} if len(predictions) > 1 else {}
    changes = _changes(shares_NC, more, labelled, bootstrap)
    return [*scores, _score(CLASS_SHARES, shares_NC, changes, labelled, bootstrap)]


def _score(
    name: str,
    p_NC: Array,
    changes: dict[str, Estimate],
    labelled: _Labels,
    bootstrap: Bootstrap,
    weights_M: Array | None = None,
    verdict: Verdict | None = None,
) -> PredictionScores:
    labels = labelled.y_NC, bootstrap, labelled.groups_N
    return PredictionScores(
        name,
        len(p_NC),
        summarise([p_NC], *labels) | changes,
        calibration_error([p_NC], *labels),
        calibration_test(p_NC, labelled.y_NC, labelled.groups_N).p,
        None if weights_M is None else tuple(weights_M.tolist()),
        verdict,
    )


def _changes(
    p_NC: Array, others: Mapping[str, Array], labelled: _Labels, bootstrap: Bootstrap
) -> dict[str, Estimate]:
    """Paired changes of log loss from each of `others`, by name."""
    return {
        name: difference([p_NC], [other_NC], labelled.y_NC, bootstrap, labelled.groups_N)
        for name, other_NC in others.items()
    }


def _verdict(p_NC: Array, shares_C: Array, labelled: _Labels, bootstrap: Bootstrap) -> Verdict:
    groups_N = np.arange(len(p_NC)) if labelled.groups_N is None else labelled.groups_N
    truth = LabelledVotes(labelled.ids, labelled.y_NC, groups_N)
    slices = (
        slices_by_kind(labelled.votes, p_NC, shares_C, truth, bootstrap) if labelled.votes is not None else {}
    )
    return build_verdict(p_NC, prior_prediction(shares_C, len(p_NC)), truth, slices, bootstrap)


def _predictions_and_blends(
    predictions: Sequence[Path], x_NMC: Array, labelled: _Labels, given_M: Array | None
) -> Iterator[tuple[str, Array, Array | None]]:
    """Name, probabilities (n, 3) and weights of each model and file, then of each blend."""
    for m, path in enumerate(predictions):
        yield str(path), x_NMC[:, m], None
    if len(predictions) == 1:
        return
    equal_M = shares(None, len(predictions))
    yield "blend, equal weights", weighted(equal_M, x_NMC), equal_M
    if given_M is not None:
        yield "blend, weights given", weighted(given_M, x_NMC), given_M
    y_NC, groups_N = labelled.y_NC, labelled.groups_N
    prompts_N = np.arange(len(y_NC)) if groups_N is None else groups_N
    if len(np.unique(prompts_N)) >= PROMPTS_TO_FIT:
        p_NC = nested(WEIGHTINGS, x_NMC, y_NC, prompts_N).predictions
        yield "blend, weights by nested CV", p_NC, best_weights(x_NMC, y_NC, prompts_N)


def _read_predictions(
    predictions: Sequence[Path], labelled: _Labels, predict: PredictFn | None, mapping: ColumnMap
) -> Array:
    """Predictions (n, predictions, 3) for the labelled votes; files are read first, as models take longer."""
    models = [path for path in dict.fromkeys(predictions) if predict and is_model(path)]
    if models and labelled.votes is None:
        raise TiebreakError(
            f"{labelled.path} holds labels without texts, so {models[0]} has nothing to judge; give votes, with "
            f"prompt, response_a and response_b, or a file of: tiebreak predict {models[0]} PAIRS -o p.csv"
        )
    x = {path: aligned_predictions(path, labelled.ids, mapping) for path in predictions if path not in models}
    if predict and models:
        x |= zip(models, predict(models, labelled.votes).swapaxes(0, 1), strict=True)
    return normalised(np.stack([x[path] for path in predictions], axis=1))


def is_model(path: Path) -> bool:
    """True for a model, by its folder, recipe or name on the hub, False for a file of predictions. Raises TiebreakError if
    missing.
    """
    if hub_name(path):
        return True
    if not path.exists():
        raise TiebreakError(
            f"no model folder, recipe or file of predictions at {path}; `tiebreak run` makes a model, and "
            "`tiebreak predict` a file of predictions"
        )
    return path.is_dir() or path.suffix in (".yaml", ".yml")


def aligned_predictions(path: Path, labelled: Sequence[str], mapping: ColumnMap) -> Array:
    """The probabilities (n, 3) in a file for the labelled ids, in their order."""
    ids, x_NC = submission.read(path, mapping)
    position = {vote: n for n, vote in enumerate(ids)}
    if missing := [vote for vote in labelled if vote not in position]:
        raise TiebreakError(
            f"{len(missing)} of {len(labelled)} labelled ids have no prediction in {path}, "
            f"such as {missing[0]!r}"
        )
    x_NC = x_NC[[position[vote] for vote in labelled]]
    total_N = x_NC.sum(axis=1)
    if (far := np.abs(total_N - 1) > SUM_TOLERANCE).any():
        first = int(far.argmax())
        raise TiebreakError(
            f"the probabilities of {labelled[first]!r} in {path} add up to {total_N[first]:.4g}, not 1"
        )
    return x_NC


def _read_labels(path: Path, mapping: ColumnMap) -> _Labels:
    """Read the labels of a file of votes or of a solution."""
    if path.is_file() and submission.is_solution(path, mapping):
        ids, y_NC = submission.read(path)
        return _Labels(path, ids, normalised(y_NC))
    votes = readers.read_whole(path, "votes", mapping)
    y_NC = normalised(probabilities(votes))
    return _Labels(path, votes["id"].to_pylist(), y_NC, prompt_groups(votes), votes)


def normalised(x: Array) -> Array:
    normalised: Array = x / x.sum(axis=-1, keepdims=True)
    return normalised
