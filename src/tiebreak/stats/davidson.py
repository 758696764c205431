"""Davidson's model of comparisons with ties: strengths of a few rivals, from probabilities as soft counts.

Davidson (JASA 65, 1970): P(A) : P(B) : P(tie) = exp(s_a) : exp(s_b) : v exp((s_a + s_b) / 2) for strengths s, so that
s_a - s_b is the log odds of A against B. Every comparison counts as one vote, split as its probabilities say. A normal
prior on the strengths and on log v, nearly flat (PRIOR), makes the maximum exist and be unique whatever was compared
and however sure the probabilities are; it also centres the strengths. The maximum is found by Newton's method.

Dimension letters: P pairs, C classes (a, b, tie), M rivals, F parameters (M strengths, log v), K parameters of a pair.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax, softmax

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

PRIOR = 1e-8
"""The precision of the prior of each parameter. It has to be small beside the information of a pair, which is about the
smaller probability: of 1e-6 and the rest it takes 0.04 off log odds of 14."""
FEATURES = np.array([[1, 0, 0], [0, 1, 0], [0.5, 0.5, 1]])
"""Of the logits: rows a, b, tie; columns strength of a, strength of b, log v."""
_STEPS = 100


@dataclass(frozen=True)
class Strengths:
    """Fitted strengths (M,) of mean 0, in log odds, log v, and the inverse (F, F) of the information with the prior."""

    strengths_: Floats
    log_tie_: float
    covariance_: Floats

    def probabilities(self, pair_P2: Ints) -> Floats:
        """P(a), P(b), P(tie), (P, 3), of pairs of rivals."""
        theta_F = np.append(self.strengths_, self.log_tie_)
        p_PC: Floats = softmax(logits(theta_F, pair_parameters(pair_P2, len(self.strengths_))), axis=1)
        return p_PC

    def gap_variance(self, pair_P2: Ints) -> Floats:
        """The variances (P,) of the differences of strength of pairs, were each comparison one vote."""
        a_P, b_P = pair_P2.T
        covariance_FF = self.covariance_
        variance_P: Floats = covariance_FF[a_P, a_P] + covariance_FF[b_P, b_P] - 2 * covariance_FF[a_P, b_P]
        return variance_P


def fit(pair_P2: Ints, p_PC: Floats, rivals: int, prior: float = PRIOR) -> Strengths:
    """Fit strengths to the probabilities (P, 3) of pairs of rivals' indices (P, 2)."""
    index_PK = pair_parameters(pair_P2, rivals)
    theta_F = np.zeros(rivals + 1)
    value = _objective(theta_F, index_PK, p_PC, prior)
    for _ in range(_STEPS):
        gradient_F, information_FF = derivatives(
            softmax(logits(theta_F, index_PK), axis=1), index_PK, p_PC, FEATURES, len(theta_F)
        )
        information_FF += prior * np.eye(len(theta_F))
        step_F = np.linalg.solve(information_FF, gradient_F - prior * theta_F)
        if np.abs(step_F).max() < 1e-9:
            break
        while (better := _objective(theta_F + step_F, index_PK, p_PC, prior)) < value - 1e-12:
            step_F /= 2
        theta_F, value = theta_F + step_F, better
    covariance_FF = np.linalg.inv(information_FF).astype(np.float64)
    return Strengths(theta_F[:-1] - theta_F[:-1].mean(), float(theta_F[-1]), covariance_FF)


def pair_parameters(pair_P2: Ints, rivals: int) -> Ints:
    """The parameters (P, 3) of pairs: both strengths and log v."""
    index_PK: Ints = np.column_stack([pair_P2, np.full(len(pair_P2), rivals)])
    return index_PK


def logits(theta_F: Floats, index_PK: Ints) -> Floats:
    """The logits (P, 3) of the pairs with these parameters."""
    z_PC: Floats = theta_F[index_PK] @ FEATURES.T
    return z_PC


def derivatives(
    p_PC: Floats, index_PK: Ints, mass_PC: Floats, features: Floats, parameters: int
) -> tuple[Floats, Floats]:
    """The gradient (F,) of the log-likelihood of a multinomial logit and its negative Hessian (F, F).

    p_PC: the model's probabilities. mass_PC: the votes for each class. features: of the logits, (C, K) or (P, C, K).
    """
    total_P = mass_PC.sum(axis=1)
    residual_PC = mass_PC - total_P[:, None] * p_PC
    gradient_PK = (residual_PC[:, None] @ features)[:, 0]
    mean_PK = (p_PC[:, None] @ features)[:, 0]
    square_PKK = features.swapaxes(-1, -2) @ (p_PC[:, :, None] * features)
    curvature_PKK = total_P[:, None, None] * (square_PKK - mean_PK[:, :, None] * mean_PK[:, None, :])
    # bincount is several times as fast as add.at
    gradient_F = np.bincount(index_PK.ravel(), gradient_PK.ravel(), parameters).astype(np.float64)
    place_PKK = index_PK[:, :, None] * parameters + index_PK[:, None, :]
    hessian_F = np.bincount(place_PKK.ravel(), curvature_PKK.ravel(), parameters**2).astype(np.float64)
    return gradient_F, hessian_F.reshape(parameters, parameters)


def _objective(theta_F: Floats, index_PK: Ints, p_PC: Floats, prior: float) -> float:
    """The log-likelihood of the soft counts with the prior."""
    log_PC = log_softmax(logits(theta_F, index_PK), axis=1)
    return float((p_PC * log_PC).sum() - prior / 2 * theta_F @ theta_F)
