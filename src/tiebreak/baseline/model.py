"""The baseline: logistic regression on words and features, boosted trees on features, blended.

All of it treats the answers alike, so that exchanging them exchanges the probabilities to the last bit.

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
from tiebreak.data.logits import swap_answers
from tiebreak.errors import TiebreakError
from tiebreak.evaluate.blend import LogBlend
from tiebreak.evaluate.metrics import targets
from tiebreak.evaluate.selection import splits

Array = NDArray[np.float64]

PARTS = ("prior", "words", "trees")
"""What is blended."""

FOLDS = 3
"""Of prompts, whose out-of-fold predictions the blend's weights are fitted on."""

BLEND_PRIOR = 0.25
"""Times the usual prior of a log blend, here towards class shares: on 60 real votes worth 0.03 of log loss, on 4,000
it costs 0.0002."""

PENALTY = 3.0
"""Of the logistic regression's coefficients."""

DENSE_SCALE = 0.1
"""Features are this over their spread beside words, which have a norm of one."""

TREES = {
    "learning_rate": 0.06,
    "max_iter": 100,
    "max_leaf_nodes": 15,
    "min_samples_leaf": 20,
    "l2_regularization": 10.0,
    "max_features": 0.3,
}
"""Settings of HistGradientBoostingClassifier, by cross-validation on 4,908 real votes (docs/decisions.md)."""


@dataclass(frozen=True)
class Parts:
    """The parts, fitted: shares of the classes, symmetric; logistic regression with its scaling; trees."""

    prior_C: Array
    centre_H: Array
    scale_F: Array
    scale_H: Array
    words: SymmetricLogistic
    trees: Trees

    @classmethod
    def fit(cls, seen: Inputs, y_NC: Array, weights_N: Array) -> Self:
        even_NH = _even(seen)
        centre_H, scale_F, scale_H = even_NH.mean(axis=0), _scale(seen.odd_NF), _scale(even_NH)
        words = SymmetricLogistic(PENALTY).fit(*_sparse(seen, centre_H, scale_F, scale_H), y_NC, weights_N)
        trees = _grow(seen, y_NC, weights_N)
        return cls(_prior(y_NC, weights_N), centre_H, scale_F, scale_H, words, trees)

    def predict(self, seen: Inputs) -> Array:
        """What each part says (n, 3 parts, 3 classes)."""
        words_NC = self.words.predict_proba(*_sparse(seen, self.centre_H, self.scale_F, self.scale_H))
        stored_NC, exchanged_NC = (self.trees.predict_proba(seen.dense(order)) for order in (0, 1))
        trees_NC = (stored_NC + swap_answers(exchanged_NC)) / 2
        return np.stack([np.tile(self.prior_C, (len(seen), 1)), words_NC, trees_NC], axis=1)


class Baseline(BaseEstimator):  # type: ignore[misc]
    """Fitted: parts_; blend_, with a weight for each of PARTS; out_of_fold_ (n, 3), what was said of each vote of the
    fit by parts that were fitted without its fold of prompts.
    """

    def fit(
        self,
        votes: pa.Table,
        labels: ArrayLike,
        groups_N: NDArray[np.integer],
        weights_N: ArrayLike | None = None,
    ) -> Self:
        """Fit on votes in data.votes.SCHEMA, labels that are class numbers (n,) or soft (n, 3), the number of each
        vote's prompt, and how much each vote counts. Both orders of a vote are learned from.

        Raises TiebreakError for votes on fewer than two prompts.
        """
        return self.fit_inputs(Inputs.of(votes), labels, groups_N, weights_N)

    def fit_inputs(
        self,
        seen: Inputs,
        labels: ArrayLike,
        groups_N: NDArray[np.integer],
        weights_N: ArrayLike | None = None,
    ) -> Self:
        """The same on the inputs of votes, where they are at hand."""
        if (prompts := len(np.unique(groups_N))) < 2:
            raise TiebreakError(
                f"the baseline needs votes on two prompts or more to train on, and there are {prompts}; give more "
                "votes, or set baseline.enabled=false"
            )
        y_NC = targets(labels)
        weights_N = np.ones(len(y_NC)) if weights_N is None else np.asarray(weights_N, dtype=np.float64)
        x_NMC = np.empty((len(y_NC), len(PARTS), 3))
        for fit, score in splits(groups_N, min(FOLDS, prompts)):
            x_NMC[score] = Parts.fit(seen[fit], y_NC[fit], weights_N[fit]).predict(seen[score])
        self.blend_ = LogBlend(BLEND_PRIOR).fit(x_NMC, y_NC)
        self.out_of_fold_ = self.blend_.predict_proba(x_NMC)
        self.parts_ = Parts.fit(seen, y_NC, weights_N)
        return self

    def predict_proba(self, votes: pa.Table) -> Array:
        """Probabilities (n, 3) of votes in data.votes.SCHEMA; those of a vote do not depend on the other rows."""
        return self.predict_inputs(Inputs.of(votes)) if len(votes) else np.empty((0, 3))

    def predict_inputs(self, seen: Inputs) -> Array:
        """The same of inputs at hand, one or more."""
        return self.blend_.predict_proba(self.parts_.predict(seen))

    def weights(self) -> dict[str, float]:
        """What each of PARTS counts in the blend."""
        return {f"weight_{part}": float(w) for part, w in zip(PARTS, self.blend_.weights_, strict=True)}


def _prior(y_NC: Array, weights_N: Array) -> Array:
    """Shares of the classes, both orders together, with one made-up vote a class so that none is 0."""
    total_C = weights_N @ y_NC + 1
    total_C = total_C + swap_answers(total_C)
    shares_C: Array = total_C / total_C.sum()
    return shares_C


def _even(seen: Inputs) -> Array:
    """Even features, and the sizes of the odd ones: a sum of trees finds these by itself."""
    return np.hstack([seen.even_NG, np.abs(seen.odd_NF)])


def _scale(x_NF: Array) -> Array:
    scale_F: Array = DENSE_SCALE / np.maximum(x_NF.std(axis=0), 1e-2)
    return scale_F


def _sparse(seen: Inputs, centre_H: Array, scale_F: Array, scale_H: Array) -> tuple[csr_array, csr_array]:
    """Words and features side by side, odd and even."""
    odd = hstack([seen.odd_words, csr_array(seen.odd_NF * scale_F)], format="csr")
    even = hstack([seen.even_words, csr_array((_even(seen) - centre_H) * scale_H)], format="csr")
    return csr_array(odd), csr_array(even)


def _grow(seen: Inputs, y_NC: Array, weights_N: Array) -> Trees:
    """Trees grown on both orders of each vote; a soft label is a row a class, by its share.

    Where a class does not occur, a row of zeros of next to no weight stands for it. Equal weights are left out:
    binning with weights takes scikit-learn as long as all else.
    """
    vote_R, class_R = np.nonzero(y_NC)
    share_R = weights_N[vote_R] * y_NC[vote_R, class_R]
    x_NF, exchanged_NF = seen.dense(0), seen.dense(1)
    y_R = np.concatenate([class_R, np.array([1, 0, 2])[class_R]])
    missing = np.setdiff1d(np.arange(3), y_R)
    x_RF = np.concatenate([x_NF[vote_R], exchanged_NF[vote_R], np.zeros((len(missing), x_NF.shape[1]))])
    weights_R = np.concatenate([share_R, share_R, np.full(len(missing), 1e-3)])
    equal = bool((weights_R == weights_R[0]).all())
    return Trees.fit(x_RF, np.concatenate([y_R, missing]), None if equal else weights_R, **TREES)
