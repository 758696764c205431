"""Models, and predictions in files, against labels in another file: what `tiebreak evaluate` prints."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tiebreak.data import readers
from tiebreak.data.groups import prompt_numbers
from tiebreak.data.votes import probabilities
from tiebreak.errors import TiebreakError
from tiebreak.evaluate import submission
from tiebreak.evaluate.bias import sliced
from tiebreak.evaluate.blend import PROMPTS_TO_FIT, WEIGHTINGS, best_weights, shares, weighted
from tiebreak.evaluate.calibrated import CalibrationError, calibration_error, calibration_test
from tiebreak.evaluate.conclusion import Conclusion, conclude
from tiebreak.evaluate.ladder import Truth
from tiebreak.evaluate.metrics import Array, Bootstrap, Estimate, difference, prior_prediction, summarise
from tiebreak.evaluate.selection import nested

SUM_TOLERANCE = 0.02
"""Probabilities rounded to two digits add up to 1 within this; they are scaled to 1, as the competition does."""

SHARES = "class shares of these votes"

Say = Callable[[Sequence[Path], pa.Table], Array]
"""From models and votes (data.votes.SCHEMA) to what each model says of them, (n, models, 3)."""


@dataclass(frozen=True)
class Scored:
    """Predictions of one model, of one file or of a blend: METRICS with intervals.

    Where there are several, `metrics` also has log_loss_change, the paired difference from the first; but for the
    class shares change_from_shares, that from them. calibrated: the p-value of the calibration test. weights: of
    what a blend is made of, None for no blend. verdict: None for the class shares.
    """

    name: str
    rows: int
    metrics: dict[str, Estimate]
    ece: CalibrationError
    calibrated: float | None
    weights: tuple[float, ...] | None = None
    verdict: Conclusion | None = None

    def figures(self) -> dict[str, dict[str, Any]]:
        """Value, low and high of every figure; those of calibration have no interval."""
        of_ece = asdict(self.ece)
        plain = {
            "ece": of_ece.pop("value"),
            **{f"ece_{name}": value for name, value in of_ece.items()},
            "calibration_p": self.calibrated,
        }
        found = {name: asdict(estimate) for name, estimate in self.metrics.items()}
        return found | {name: {"value": value, "low": None, "high": None} for name, value in plain.items()}


@dataclass(frozen=True)
class _Labels:
    """Soft labels (n, 3); of a file of votes also prompt groups (n,) and the votes, of a solution neither."""

    path: Path
    ids: list[str]
    y_NC: Array
    groups_N: NDArray[np.int64] | None = None
    votes: pa.Table | None = None


def against(
    predictions: Sequence[Path],
    labels: Path,
    bootstrap: Bootstrap,
    weights: Sequence[float] | None = None,
    say: Say | None = None,
) -> list[Scored]:
    """Each model and file of predictions, and of several their blends: with equal weights, with `weights` where
    given, and with weights chosen and fitted by nested cross-validation, each vote by weights that its prompt
    had no part in. The weights shown for those are fitted on all votes; it needs PROMPTS_TO_FIT prompts. Last come
    the class shares of these very labels, which no model can know beforehand.

    predictions: what `submission.read` takes and, where `say` can ask them, folders of models and recipes.
    labels: the same as a file of predictions or, as models need, any file of votes; those with nearly the
    same prompt are resampled together. Raises TiebreakError where a file or one of its rows cannot be read, not
    every labelled id has a prediction, or models are to judge labels without texts.
    """
    labelled = _labels(labels)
    if not labelled.ids:
        raise TiebreakError(f"{labels} has no labelled votes")
    given = None if weights is None else shares(weights, len(predictions))
    x_NMC = _said(predictions, labelled, say)
    shares_C = labelled.y_NC.mean(axis=0)
    shares_NC = prior_prediction(shares_C, len(labelled.ids))
    found: list[Scored] = []
    for name, p_NC, weights_M in _arms(predictions, x_NMC, labelled, given):
        more = {"log_loss_change": x_NMC[:, 0]} if found else {}
        metrics = _changes(p_NC, more | {"change_from_shares": shares_NC}, labelled, bootstrap)
        verdict = _verdict(p_NC, shares_C, labelled, bootstrap)
        found.append(_scored(name, p_NC, metrics, labelled, bootstrap, weights_M, verdict))
    more = {"log_loss_change": x_NMC[:, 0]} if len(predictions) > 1 else {}
    changes = _changes(shares_NC, more, labelled, bootstrap)
    return [*found, _scored(SHARES, shares_NC, changes, labelled, bootstrap)]


def _scored(
    name: str,
    p_NC: Array,
    changes: dict[str, Estimate],
    labelled: _Labels,
    bootstrap: Bootstrap,
    weights_M: Array | None = None,
    verdict: Conclusion | None = None,
) -> Scored:
    against = labelled.y_NC, bootstrap, labelled.groups_N
    return Scored(
        name,
        len(p_NC),
        summarise([p_NC], *against) | changes,
        calibration_error([p_NC], *against),
        calibration_test(p_NC, labelled.y_NC, labelled.groups_N).p,
        None if weights_M is None else tuple(weights_M.tolist()),
        verdict,
    )


def _changes(
    p_NC: Array, others: Mapping[str, Array], labelled: _Labels, bootstrap: Bootstrap
) -> dict[str, Estimate]:
    """The paired change of log loss from each of `others`, by its name."""
    return {
        name: difference([p_NC], [other_NC], labelled.y_NC, bootstrap, labelled.groups_N)
        for name, other_NC in others.items()
    }


def _verdict(p_NC: Array, shares_C: Array, labelled: _Labels, bootstrap: Bootstrap) -> Conclusion:
    groups_N = np.arange(len(p_NC)) if labelled.groups_N is None else labelled.groups_N
    truth = Truth(labelled.ids, labelled.y_NC, groups_N)
    slices = sliced(labelled.votes, p_NC, shares_C, truth, bootstrap) if labelled.votes is not None else {}
    return conclude(p_NC, prior_prediction(shares_C, len(p_NC)), truth, slices, bootstrap)


def _arms(
    predictions: Sequence[Path], x_NMC: Array, labelled: _Labels, given: Array | None
) -> Iterator[tuple[str, Array, Array | None]]:
    """Name, probabilities (n, 3) and weights of each model and file, then of each blend."""
    for m, path in enumerate(predictions):
        yield str(path), x_NMC[:, m], None
    if len(predictions) == 1:
        return
    equal_M = shares(None, len(predictions))
    yield "blend, equal weights", weighted(equal_M, x_NMC), equal_M
    if given is not None:
        yield "blend, weights given", weighted(given, x_NMC), given
    y_NC, groups_N = labelled.y_NC, labelled.groups_N
    prompts_N = np.arange(len(y_NC)) if groups_N is None else groups_N
    if len(np.unique(prompts_N)) >= PROMPTS_TO_FIT:
        p_NC = nested(WEIGHTINGS, x_NMC, y_NC, prompts_N).predictions
        yield "blend, weights by nested CV", p_NC, best_weights(x_NMC, y_NC, prompts_N)


def _said(predictions: Sequence[Path], labelled: _Labels, say: Say | None) -> Array:
    """What models and files give the labelled votes (n, predictions, 3); files come first, models take longer."""
    models = [path for path in dict.fromkeys(predictions) if say and _is_model(path)]
    if models and labelled.votes is None:
        raise TiebreakError(
            f"{labelled.path} holds labels without texts, so {models[0]} has nothing to judge; give votes, with "
            f"prompt, response_a and response_b, or a file of: tiebreak predict {models[0]} PAIRS -o p.csv"
        )
    x = {path: _aligned(path, labelled.ids) for path in predictions if path not in models}
    if say and models:
        x |= zip(models, say(models, labelled.votes).swapaxes(0, 1), strict=True)
    return _normalised(np.stack([x[path] for path in predictions], axis=1))


def _is_model(path: Path) -> bool:
    """Is this a model's folder or a recipe, or else a file of predictions? Raises TiebreakError for nothing."""
    if not path.exists():
        raise TiebreakError(
            f"no model folder, recipe or file of predictions at {path}; `tiebreak run` makes a model, and "
            "`tiebreak predict` a file of predictions"
        )
    return path.is_dir() or path.suffix in (".yaml", ".yml")


def _aligned(path: Path, labelled: Sequence[str]) -> Array:
    """The numbers (n, 3) that a file gives the labelled ids, in their order."""
    ids, x_NC = submission.read(path)
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


def _labels(path: Path) -> _Labels:
    """The labels of a file of votes or of a solution."""
    if path.is_file() and submission.is_solution(path):
        ids, y_NC = submission.read(path)
        return _Labels(path, ids, _normalised(y_NC))
    votes = readers.read_whole(path, "votes")
    y_NC = _normalised(probabilities(votes))
    return _Labels(path, votes["id"].to_pylist(), y_NC, prompt_numbers(votes), votes)


def _normalised(x: Array) -> Array:
    normalised: Array = x / x.sum(axis=-1, keepdims=True)
    return normalised
