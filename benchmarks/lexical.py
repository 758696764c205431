"""The lexical baseline: TF-IDF and lengths, multinomial logistic regression, both orders of each vote."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from scipy import sparse
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from tiebreak.evaluate.build_metrics import labelled_votes
from tiebreak.stats.metrics import Array, log_loss
from tiebreak.votes import splits
from tiebreak.votes.schema import read_table, swap_answers


def make(rows: Path, output: Path) -> None:
    """Write what the model says of the lockbox votes of step 2's file as a NumPy file (N, 3), unless it is there."""
    if output.is_file():
        return
    table = read_table(rows)
    np.save(output, lexical(fold_votes(table), splits.lockbox(table)))


def fold_votes(rows: pa.Table) -> pa.Table:
    """The votes that belong to a fold: neither lockbox, nor calibration, nor extra votes."""
    return rows.filter(pc.greater_equal(rows["fold"], 0))


def lexical(training: pa.Table, lockbox: pa.Table) -> Array:
    """TF-IDF of A less that of B, of the prompt, and lengths: logistic regression on both orders.

    C is the one with the least log loss over the folds; the probabilities are the mean over both orders.
    """
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), min_df=5, max_features=40_000, sublinear_tf=True)
    vectorizer.fit([text for column in zip(*texts_of(training), strict=True) for text in column])
    x_NF, y_N = lexical_features(training, vectorizer), labelled_votes(training).y_NC.argmax(axis=1)
    fold_N = training["fold"].to_numpy()
    losses = {
        C: log_loss(
            np.concatenate(
                [regress(C, x_NF, y_N, fold_N != f, x_NF, fold_N == f) for f in np.unique(fold_N)]
            ),
            np.concatenate([y_N[fold_N == f] for f in np.unique(fold_N)]),
        )
        for C in (0.01, 0.03, 0.1, 0.3, 1.0)
    }
    best = min(losses, key=lambda C: losses[C])
    everything = np.ones(len(y_N), dtype=bool)
    of_lockbox = lexical_features(lockbox, vectorizer)
    return regress(best, x_NF, y_N, everything, of_lockbox, np.ones(len(lockbox), dtype=bool))


def lexical_features(votes: pa.Table, vectorizer: TfidfVectorizer) -> dict[int, sparse.csr_matrix]:
    """Features of every vote in each order, as stored and swapped."""
    prompt, a, b = (vectorizer.transform(texts) for texts in texts_of(votes))
    length_a, length_b = (np.log1p([len(text) for text in texts]) for texts in texts_of(votes)[1:])
    difference_N, both_N = length_a - length_b, (length_a + length_b) / 10
    made = {}
    for order, sign in ((0, 1.0), (1, -1.0)):
        plain = np.stack([sign * difference_N, np.abs(difference_N), both_N], axis=1)
        made[order] = sparse.hstack([sign * (a - b), prompt, abs(a - b), plain]).tocsr()
    return made


def regress(
    C: float,
    x: Mapping[int, sparse.csr_matrix],
    y_N: NDArray[np.integer],
    fit: NDArray[np.bool_],
    other: Mapping[int, sparse.csr_matrix],
    score: NDArray[np.bool_],
) -> Array:
    swapped_N = swap_answers(np.arange(3))[y_N]
    model = LogisticRegression(C=C, max_iter=300)
    model.fit(sparse.vstack([x[0][fit], x[1][fit]]), np.concatenate([y_N[fit], swapped_N[fit]]))
    stored_NC, swapped_NC = (model.predict_proba(other[order][score]) for order in (0, 1))
    p_NC: Array = (stored_NC + swap_answers(swapped_NC)) / 2
    return p_NC


def texts_of(votes: pa.Table) -> list[list[str]]:
    return [
        ["\n".join(turn or "" for turn in turns) for turns in votes[column].to_pylist()]
        for column in ("prompt", "response_a", "response_b")
    ]
