"""The baseline model: a blend of logistic regression on words and features with boosted trees on features.

All parts are symmetric in the answers, so that exchanging them exchanges the probabilities to the last bit.

Dimension letters: N votes, M parts, C classes (a, b, tie), F odd features, H even ones and the sizes of the odd.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_array, hstack
from sklearn.base import BaseEstimator

from tiebreak.baseline.inputs import Inputs
from tiebreak.baseline.linear import SymmetricLogistic
from tiebreak.baseline.trees import Trees
from tiebreak.errors import TiebreakError
from tiebreak.stats.blend import LogBlend
from tiebreak.stats.metrics import targets
from tiebreak.stats.nested_cv import splits
from tiebreak.votes.schema import swap_answers

Array = NDArray[np.float64]

PARTS = ("prior", "words", "trees")
"""The parts of the blend by name."""

FOLDS = 3
"""The number of folds of prompts, on whose out-of-fold predictions the blend's weights are fitted."""

BLEND_PRIOR = 0.25
"""Times the usual prior of a log blend, here towards class shares: on 60 real votes worth 0.03 of log loss, on 4,000
it costs 0.0002."""

PENALTY = 3.0
"""The L2 penalty of the logistic regression's coefficients."""

DENSE_SCALE = 0.1
"""The standard deviation of scaled features beside words, which have a norm of one."""

TREES = {
    "learning_rate": 0.06,
    "max_iter": 100,
    "max_leaf_nodes": 15,
    "min_samples_leaf": 20,
    "l2_regularization": 10.0,
    "max_features": 0.3,
    "max_bins": 63,
}
"""Settings of HistGradientBoostingClassifier, chosen by cross-validation on 4,908 real votes (docs/decisions.md)."""


@dataclass(frozen=True)
class Parts:
    """The fitted parts: symmetric shares of the classes; logistic regression with its scaling; trees."""

    prior_C: Array
    centre_H: Array
    scale_F: Array
    scale_H: Array
    words: SymmetricLogistic
    trees: Trees

    @classmethod
    def fit(cls, inputs: Inputs, y_NC: Array, weights_N: Array) -> Self:
        even_NH = even_and_sizes(inputs)
        centre_H, scale_F, scale_H = even_NH.mean(axis=0), _scale(inputs.odd_NF), _scale(even_NH)
        words = SymmetricLogistic(PENALTY).fit(*_sparse(inputs, centre_H, scale_F, scale_H), y_NC, weights_N)
        trees = _fit_trees(inputs, y_NC, weights_N)
        return cls(_prior(y_NC, weights_N), centre_H, scale_F, scale_H, words, trees)

    def predict(self, inputs: Inputs) -> Array:
        """The probabilities of each part (n, 3 parts, 3 classes)."""
        words_NC = self.words.predict_proba(*_sparse(inputs, self.centre_H, self.scale_F, self.scale_H))
        stored_NC, exchanged_NC = (self.trees.predict_proba(inputs.dense(order)) for order in (0, 1))
        trees_NC = (stored_NC + swap_answers(exchanged_NC)) / 2
        return np.stack([np.tile(self.prior_C, (len(inputs), 1)), words_NC, trees_NC], axis=1)


class Baseline(BaseEstimator):  # type: ignore[misc]
    """The baseline as a scikit-learn estimator.

    Fitted: parts_; blend_, with a weight for each of PARTS; out_of_fold_ (n, 3), the predictions for the training votes
    by parts that were fitted without their fold of prompts.
    """

    def fit(
        self,
        votes: pa.Table,
        labels: ArrayLike,
        groups_N: NDArray[np.integer],
        weights_N: ArrayLike | None = None,
    ) -> Self:
        """Fit on votes in votes.schema.SCHEMA, in both orders.

        labels: class numbers (n,) or soft (n, 3). groups_N: the number of each vote's prompt. weights_N: the weight of
        each vote.

        Raises TiebreakError for votes on fewer than two prompts.
        """
        return self.fit_inputs(Inputs.of(votes), labels, groups_N, weights_N)

    def fit_inputs(
        self,
        inputs: Inputs,
        labels: ArrayLike,
        groups_N: NDArray[np.integer],
        weights_N: ArrayLike | None = None,
    ) -> Self:
        """Fit as `fit` does, on precomputed inputs."""
        if (prompts := len(np.unique(groups_N))) < 2:
            raise TiebreakError(
                f"the baseline needs votes on two prompts or more to train on, and there are {prompts}; give more "
                "votes, or set baseline.enabled=false"
            )
        y_NC = targets(labels)
        weights_N = np.ones(len(y_NC)) if weights_N is None else np.asarray(weights_N, dtype=np.float64)
        x_NMC = np.empty((len(y_NC), len(PARTS), 3))
        for fit, score in splits(groups_N, min(FOLDS, prompts)):
            x_NMC[score] = Parts.fit(inputs[fit], y_NC[fit], weights_N[fit]).predict(inputs[score])
        self.blend_ = LogBlend(BLEND_PRIOR).fit(x_NMC, y_NC)
        self.out_of_fold_ = self.blend_.predict_proba(x_NMC)
        self.parts_ = Parts.fit(inputs, y_NC, weights_N)
        return self

    def predict_proba(self, votes: pa.Table) -> Array:
        """Probabilities (n, 3) of votes in votes.schema.SCHEMA; those of a vote do not depend on the other rows."""
        return self.predict_inputs(Inputs.of(votes)) if len(votes) else np.empty((0, 3))

    def predict_inputs(self, inputs: Inputs) -> Array:
        """Probabilities (n, 3) of precomputed inputs, one or more."""
        return self.blend_.predict_proba(self.parts_.predict(inputs))

    def weights(self) -> dict[str, float]:
        """The weight of each of PARTS in the blend."""
        return {f"weight_{part}": float(w) for part, w in zip(PARTS, self.blend_.weights_, strict=True)}


def _prior(y_NC: Array, weights_N: Array) -> Array:
    """The shares of the classes over both orders, with one pseudo-vote per class so that none is 0."""
    total_C = weights_N @ y_NC + 1
    total_C = total_C + swap_answers(total_C)
    shares_C: Array = total_C / total_C.sum()
    return shares_C


def even_and_sizes(inputs: Inputs) -> Array:
    """The even features and the absolute values of the odd ones, which are even too; trees do without the latter."""
    return np.hstack([inputs.even_NG, np.abs(inputs.odd_NF)])


def _scale(x_NF: Array) -> Array:
    scale_F: Array = DENSE_SCALE / np.maximum(x_NF.std(axis=0), 1e-2)
    return scale_F


def _sparse(inputs: Inputs, centre_H: Array, scale_F: Array, scale_H: Array) -> tuple[csr_array, csr_array]:
    """Sparse matrices of words and features side by side, odd and even."""
    odd = hstack([inputs.odd_words, csr_array(inputs.odd_NF * scale_F)], format="csr")
    even = hstack([inputs.even_words, csr_array((even_and_sizes(inputs) - centre_H) * scale_H)], format="csr")
    return csr_array(odd), csr_array(even)


def _fit_trees(inputs: Inputs, y_NC: Array, weights_N: Array) -> Trees:
    """Fit trees on both orders of each vote; a soft label becomes one row per class, weighted by its share.

    A class that does not occur gets a row of zeros with a small weight. Equal weights are left out, because
    binning with weights doubles the time of scikit-learn's fit.
    """
    vote_R, class_R = np.nonzero(y_NC)
    share_R = weights_N[vote_R] * y_NC[vote_R, class_R]
    x_NF, exchanged_NF = inputs.dense(0), inputs.dense(1)
    y_R = np.concatenate([class_R, swap_answers(np.arange(3))[class_R]])
    missing = np.setdiff1d(np.arange(3), y_R)
    x_RF = np.concatenate([x_NF[vote_R], exchanged_NF[vote_R], np.zeros((len(missing), x_NF.shape[1]))])
    weights_R = np.concatenate([share_R, share_R, np.full(len(missing), 1e-3)])
    equal = bool((weights_R == weights_R[0]).all())
    return Trees.fit(x_RF, np.concatenate([y_R, missing]), None if equal else weights_R, **TREES)
