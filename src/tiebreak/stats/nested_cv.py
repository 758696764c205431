"""Nested cross-validation for choosing among calibrators or blends, on unseen rows only.

An estimator has `fit(x, labels)` and `predict_proba(x)`, like those in `calibration` and `blend`; x has a row
a vote, so probabilities (n, 3) of one model or (n, models, 3) of several.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import clone
from sklearn.model_selection import GroupKFold

from tiebreak.stats.metrics import Array, log_loss, targets

Split = tuple[NDArray[np.int64], NDArray[np.int64]]


class Estimator(Protocol):
    def fit(self, x: Any, labels: ArrayLike) -> Self: ...
    def predict_proba(self, x: Any) -> Array: ...


@dataclass(frozen=True)
class Nested:
    """The result of nested cross-validation.

    predictions (n, 3): each row by the candidate chosen without that row's fold.
    chosen: that candidate's name in each outer fold.
    """

    predictions: Array
    chosen: tuple[str, ...]


def splits(groups_N: NDArray[np.integer], folds: int = 5, seed: int = 0) -> list[Split]:
    """The rows to fit on and the rows to score, in each fold; a group is never in both."""
    shuffled = GroupKFold(folds, shuffle=True, random_state=seed)
    return list(shuffled.split(groups_N, groups=groups_N))


def out_of_fold(estimator: Estimator, x: Array, labels: ArrayLike, folds: Sequence[Split]) -> Array:
    """Out-of-fold probabilities (n, 3), each row by a clone fitted without its fold."""
    y_NC = targets(labels)
    p_NC = np.full(y_NC.shape, np.nan)
    for fit, score in folds:
        p_NC[score] = clone(estimator).fit(x[fit], y_NC[fit]).predict_proba(x[score])
    return p_NC


def best_candidate(
    candidates: Mapping[str, Estimator],
    x: Array,
    labels: ArrayLike,
    groups_N: NDArray[np.integer],
    folds: int = 5,
    seed: int = 0,
) -> str:
    """The name of the candidate with the least cross-validated log loss; the first of equals."""
    inner = splits(groups_N, folds, seed)
    losses = {name: log_loss(out_of_fold(c, x, labels, inner), labels) for name, c in candidates.items()}
    return min(losses, key=lambda name: losses[name])


def nested(
    candidates: Mapping[str, Estimator],
    x: Array,
    labels: ArrayLike,
    groups_N: NDArray[np.integer],
    folds: int = 5,
    seed: int = 0,
) -> Nested:
    """Nested cross-validation: choose in each outer fold by cross-validation on the others (Cawley and Talbot 2010).

    The log loss of `predictions` is an unbiased estimate for choosing and fitting together; the least
    cross-validated loss of the candidates is optimistic.
    """
    y_NC = targets(labels)
    p_NC, chosen = np.full(y_NC.shape, np.nan), []
    for fit, score in splits(groups_N, folds, seed):
        name = best_candidate(candidates, x[fit], y_NC[fit], groups_N[fit], folds, seed)
        p_NC[score] = clone(candidates[name]).fit(x[fit], y_NC[fit]).predict_proba(x[score])
        chosen.append(name)
    return Nested(p_NC, tuple(chosen))
