"""Choice of the pairs of models to vote on, or to judge, next: where another row makes the variances of interest smallest.

One more row of a pair lowers the sum of the variances of some contrasts C of the strengths by |C V x|^2 / (x' V x + 1 / i), for their
covariance V, the pair's contrast x and the information i of the row on its gap (a rank-one update; A-optimality, and c-optimality
for a single contrast, Fedorov, Theory of Optimal Experiments, 1972). Which of the pair's prompts are taken has to be left to chance: the
intervals rest on it.

Dimension letters: P pairs, M models, T contrasts.
"""

import numpy as np
from numpy.typing import NDArray

from tiebreak.stats.ratings import Ratings

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_STEPS = 200
"""Rows are given out in about as many steps, for which the covariance is computed anew."""


def next_votes(
    ratings: Ratings,
    pair_P2: Ints,
    free_P: Ints,
    votes: int,
    explained: float = 0.0,
    contrasts_TM: Floats | None = None,
) -> tuple[Ints, float]:
    """The votes (P,) to give to pairs of comparable models, and the share by which the standard errors are expected to fall.

    free_P: rows of each pair without a vote. explained: the share of the votes' variance that the judge explains. contrasts_TM: of
    which the variances count, by default each strength.
    """
    covariance_MM = ratings.covariance_.copy()
    wanted_MM = np.eye(len(covariance_MM)) if contrasts_TM is None else contrasts_TM.T @ contrasts_TM
    before = float((wanted_MM * covariance_MM).sum())
    a_P, b_P = pair_P2.T
    noise_P = (1 - min(explained, 1 - 1e-3)) / information(ratings, pair_P2).clip(1e-9)
    free_P = np.where(ratings.comparable_[pair_P2].all(axis=1), free_P, 0)
    chosen_P = np.zeros(len(pair_P2), np.int64)
    left = min(votes, int(free_P.sum()))
    step = -(-left // _STEPS)
    while left:
        square_MM = covariance_MM @ wanted_MM @ covariance_MM
        gain_P = _contrast(square_MM, a_P, b_P) / (_contrast(covariance_MM, a_P, b_P) + noise_P / step)
        best = int(np.where(chosen_P < free_P, gain_P, -1.0).argmax())
        given = min(step, left, int(free_P[best] - chosen_P[best]))
        chosen_P[best] += given
        left -= given
        towards_M = covariance_MM[:, a_P[best]] - covariance_MM[:, b_P[best]]
        total = towards_M[a_P[best]] - towards_M[b_P[best]] + noise_P[best] / given
        covariance_MM -= np.outer(towards_M, towards_M) / total
    after = float((wanted_MM * covariance_MM).sum())
    return chosen_P, float(1 - np.sqrt(max(after, 0.0) / before)) if before > 0 else 0.0


def leaders(ratings: Ratings) -> Floats:
    """The contrasts (T, M) of the strongest model with each that may be as strong, the second one in any case.

    Raises ValueError where no two models are comparable.
    """
    order = [m for m in np.argsort(-ratings.strengths_, kind="stable") if ratings.comparable_[m]]
    if len(order) < 2:
        raise ValueError("no two models are comparable")
    first, others = order[0], np.array(order[1:])
    gap_T, half_T = ratings.gaps(np.full(len(others), first), others)
    rivals = others[(gap_T <= half_T) | (others == others[0])]
    contrasts_TM = np.zeros((len(rivals), len(ratings.strengths_)))
    contrasts_TM[:, first], contrasts_TM[np.arange(len(rivals)), rivals] = 1, -1
    return contrasts_TM


def information(ratings: Ratings, pair_P2: Ints) -> Floats:
    """The information (P,) of a vote on the gap of its pair: the variance of (P(a) - P(b)) / 2; NaN where not comparable."""
    p_PC = ratings.probabilities(*pair_P2.T)
    found_P: Floats = (p_PC[:, 0] + p_PC[:, 1] - (p_PC[:, 0] - p_PC[:, 1]) ** 2) / 4
    return found_P


def _contrast(matrix_MM: Floats, a_P: Ints, b_P: Ints) -> Floats:
    """The quadratic forms x' A x of the contrasts (P,) of pairs."""
    found_P: Floats = matrix_MM[a_P, a_P] + matrix_MM[b_P, b_P] - 2 * matrix_MM[a_P, b_P]
    return found_P
