"""How strong models are by their votes: Bradley and Terry's model with ties, and the advantage of side A.

Davidson (JASA 65, 1970): for strengths s, P(A) : P(B) : P(tie) = exp(s_a + g/2) : exp(s_b - g/2) :
v exp((s_a + s_b) / 2), where g is what standing on side A is worth. A multinomial logit, fitted by Newton's
method on the counts of each pair of models; a weak ridge keeps models apart that never lost.

Dimension letters: P pairs of models, C classes (a, b, tie), M models, F parameters (M strengths, log v, g).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

ELO = 400 / np.log(10)
"""Points of one unit of strength."""

_RIDGE = 0.01
_STEPS = 100
# rows: a, b, tie; columns: strength of a, strength of b, log v, g
_FEATURES = np.array([[1, 0, 0, 0.5], [0, 1, 0, -0.5], [0.5, 0.5, 1, 0]])

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Strengths:
    """elo, error: (models,), points around a mean of 0 and their standard errors; advantage: points of A."""

    elo_: Floats
    error_: Floats
    advantage_: float
    advantage_error_: float


def fit(model_a_P: Ints, model_b_P: Ints, votes_PC: Floats, models: int) -> Strengths:
    """Fit strengths to counts (or probability mass) of a, b, tie for each pair of models."""
    theta_F = np.zeros(models + 2)
    index_P4 = np.stack(
        [model_a_P, model_b_P, np.full_like(model_a_P, models), np.full_like(model_a_P, models + 1)], axis=1
    )
    for _ in range(_STEPS):
        gradient_F, hessian_FF = _derivatives(theta_F, index_P4, votes_PC)
        step_F = np.linalg.solve(hessian_FF, gradient_F)
        theta_F += step_F / max(1.0, np.abs(step_F).max())
        if np.abs(step_F).max() < 1e-9:
            break
    # only differences of strengths mean something: state them, and their errors, about their mean
    centre_FF = np.eye(models + 2)
    centre_FF[:models, :models] -= 1 / models
    covariance_FF = centre_FF @ np.linalg.inv(_derivatives(theta_F, index_P4, votes_PC)[1]) @ centre_FF
    elo_F, error_F = ELO * centre_FF @ theta_F, ELO * np.sqrt(np.diag(covariance_FF))
    return Strengths(elo_F[:models], error_F[:models], float(elo_F[-1]), float(error_F[-1]))


def _derivatives(theta_F: Floats, index_P4: Ints, votes_PC: Floats) -> tuple[Floats, Floats]:
    """Gradient of the penalised log-likelihood and its negative Hessian."""
    z_PC = theta_F[index_P4] @ _FEATURES.T
    p_PC = np.exp(z_PC - z_PC.max(axis=1, keepdims=True))
    p_PC /= p_PC.sum(axis=1, keepdims=True)
    total_P = votes_PC.sum(axis=1)
    gradient_F = -_RIDGE * theta_F
    np.add.at(gradient_F, index_P4, (votes_PC - total_P[:, None] * p_PC) @ _FEATURES)
    mean_P4 = p_PC @ _FEATURES
    square_P44 = np.einsum("pc,ci,cj->pij", p_PC, _FEATURES, _FEATURES)
    curvature_P44 = total_P[:, None, None] * (square_P44 - mean_P4[:, :, None] * mean_P4[:, None, :])
    hessian_FF = _RIDGE * np.eye(len(theta_F))
    np.add.at(hessian_FF, (index_P4[:, :, None], index_P4[:, None, :]), curvature_P44)
    return gradient_F, hessian_FF
