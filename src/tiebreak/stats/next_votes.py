"""Choice of the pairs of models to vote on next: where another vote makes the strengths' variances smallest.

One more vote on a pair lowers the sum of the variances of all strengths by |V x|^2 / (x' V x + 1 / i), for their
covariance V, the pair's contrast x and the information i of a vote on its gap (a rank-one update; A-optimality, Fedorov,
Theory of Optimal Experiments, 1972). Which of the pair's prompts are voted on has to be left to chance: the intervals rest on it.

Dimension letters: P pairs, M models.
"""

import numpy as np
from numpy.typing import NDArray

from tiebreak.stats.ratings import Ratings

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def next_votes(
    ratings: Ratings, pair_P2: Ints, free_P: Ints, votes: int, explained: float = 0.0
) -> tuple[Ints, float]:
    """The votes (P,) to give to pairs of comparable models, and the share by which the standard errors are expected to fall.

    free_P: rows of each pair without a vote. explained: the share of the votes' variance that the judge explains.
    """
    covariance_MM = ratings.covariance_.copy()
    before = np.trace(covariance_MM)
    a_P, b_P = pair_P2.T
    p_PC = ratings.probabilities(a_P, b_P)
    information_P = (p_PC[:, 0] + p_PC[:, 1] - (p_PC[:, 0] - p_PC[:, 1]) ** 2) / 4 / max(1 - explained, 1e-3)
    noise_P = 1 / information_P.clip(1e-9)
    free_P = np.where(ratings.comparable_[pair_P2].all(axis=1), free_P, 0)
    chosen_P = np.zeros(len(pair_P2), np.int64)
    for _ in range(min(votes, int(free_P.sum()))):
        square_MM = covariance_MM @ covariance_MM
        gain_P = _contrast(square_MM, a_P, b_P) / (_contrast(covariance_MM, a_P, b_P) + noise_P)
        best = int(np.where(chosen_P < free_P, gain_P, -1.0).argmax())
        chosen_P[best] += 1
        towards_M = covariance_MM[:, a_P[best]] - covariance_MM[:, b_P[best]]
        total = towards_M[a_P[best]] - towards_M[b_P[best]] + noise_P[best]
        covariance_MM -= np.outer(towards_M, towards_M) / total
    left = np.trace(covariance_MM)
    return chosen_P, float(1 - np.sqrt(left / before)) if before > 0 else 0.0


def _contrast(matrix_MM: Floats, a_P: Ints, b_P: Ints) -> Floats:
    """The quadratic forms x' A x of the contrasts (P,) of pairs."""
    found_P: Floats = matrix_MM[a_P, a_P] + matrix_MM[b_P, b_P] - 2 * matrix_MM[a_P, b_P]
    return found_P
