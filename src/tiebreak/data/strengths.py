"""How strong models are by their votes: Bradley and Terry's model with ties, and the advantage of side A.

Davidson (JASA 65, 1970): for strengths s, P(A) : P(B) : P(tie) = exp(s_a + g/2) : exp(s_b - g/2) :
v exp((s_a + s_b) / 2), where g is what standing on side A is worth. A multinomial logit, fitted by Newton's
method on the mass of each pair of models. Votes of one group (on nearly the same prompt) depend on each other:
errors are of the sandwich (Liang and Zeger, Biometrika 73, 1986), whose middle is summed by groups. What votes
cannot tell (data.estimable) is not stated.

Dimension letters: N votes, P pairs of models, C classes (a, b, tie), M models, G groups, F parameters (M
strengths, log v, g), R of them that can be told.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.special import softmax

from tiebreak.data.clustered import FEWEST_PROMPTS, effective, quantile
from tiebreak.data.estimable import estimable, scatter

ELO = 400 / np.log(10)
"""Points of one unit of strength."""

_STEPS = 100
# rows: a, b, tie; columns: strength of a, strength of b, log v, g
_FEATURES = np.array([[1, 0, 0, 0.5], [0, 1, 0, -0.5], [0.5, 0.5, 1, 0]])

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Strengths:
    """Points with half the width of their 95 % intervals; NaN for what the votes cannot tell.

    placed: (models,), the largest set of models that can be compared with each other. elo, margin: (models,),
    about the mean of the placed models that are in enough prompts. prompts: (models,), the effective number of
    groups that a model is in. advantage: points of side A.
    """

    placed_: Flags
    elo_: Floats
    margin_: Floats
    prompts_: Floats
    advantage_: float
    advantage_margin_: float


def fit(model_N2: Ints, p_NC: Floats, weight_N: Floats, group_N: Ints, models: int) -> Strengths:
    """Fit strengths to votes: numbers of their models, probabilities of a, b, tie, weights and groups."""
    pair_P2, which_N = np.unique(model_N2, axis=0, return_inverse=True)
    index_P4: Ints = np.column_stack([pair_P2, np.broadcast_to([models, models + 1], pair_P2.shape)])
    mass_PC: Floats = np.stack([np.bincount(which_N, weight_N * p_N) for p_N in p_NC.T], axis=1)
    allowed_PC, basis_FR = estimable(index_P4, _FEATURES, mass_PC > 0, models + 2)
    theta_F, p_PC, inverse_FF = _maximum(index_P4, mass_PC, allowed_PC, basis_FR)
    score_N4 = (weight_N[:, None] * (p_NC - p_PC[which_N])) @ _FEATURES
    middle_FF = _summed(scatter(score_N4, index_P4[which_N], models + 2), group_N)
    covariance_FF = inverse_FF @ middle_FF @ inverse_FF
    prompts_M = _prompts(model_N2, weight_N, group_N, models)
    unknown_FF = np.eye(models + 2) - basis_FR @ basis_FR.T
    placed_M = _placed(unknown_FF[:models, :models], prompts_M)
    contrast_MF = _about_mean(placed_M, prompts_M)
    error_M = np.sqrt((contrast_MF @ covariance_FF * contrast_MF).sum(axis=1).clip(0))
    told = unknown_FF[-1, -1] < 1e-6
    error = np.sqrt(covariance_FF[-1, -1]) * quantile(effective(weight_N, group_N))
    return Strengths(
        placed_M,
        np.where(placed_M, ELO * contrast_MF @ theta_F, np.nan),
        np.where(placed_M, ELO * error_M * quantile(prompts_M), np.nan),
        prompts_M,
        float(ELO * theta_F[-1]) if told else np.nan,
        float(ELO * error) if told else np.nan,
    )


def _maximum(
    index_P4: Ints, mass_PC: Floats, allowed_PC: Flags, basis_FR: Floats
) -> tuple[Floats, Floats, Floats]:
    """The maximum (F,) of the likelihood in the span of the basis, its probabilities (P, C) and the inverse
    information (F, F).
    """
    theta_F = np.zeros(len(basis_FR))
    for _ in range(_STEPS):
        p_PC = _probabilities(theta_F, index_P4, allowed_PC)
        gradient_F, information_FF = _derivatives(p_PC, index_P4, mass_PC, len(theta_F))
        information_RR = basis_FR.T @ information_FF @ basis_FR
        step_F = basis_FR @ np.linalg.solve(information_RR, basis_FR.T @ gradient_F)
        if np.abs(step_F).max(initial=0.0) < 1e-9:
            break
        theta_F += step_F / max(1.0, np.abs(step_F).max())
    return theta_F, p_PC, basis_FR @ np.linalg.inv(information_RR) @ basis_FR.T


def _probabilities(theta_F: Floats, index_P4: Ints, allowed_PC: Flags) -> Floats:
    z_PC = np.where(allowed_PC, theta_F[index_P4] @ _FEATURES.T, -np.inf)
    p_PC: Floats = softmax(z_PC, axis=1)
    return p_PC


def _derivatives(p_PC: Floats, index_P4: Ints, mass_PC: Floats, parameters: int) -> tuple[Floats, Floats]:
    """Gradient of the log-likelihood and its negative Hessian."""
    total_P = mass_PC.sum(axis=1)
    gradient_F, hessian_FF = np.zeros(parameters), np.zeros((parameters, parameters))
    np.add.at(gradient_F, index_P4, (mass_PC - total_P[:, None] * p_PC) @ _FEATURES)
    mean_P4 = p_PC @ _FEATURES
    square_P44 = np.einsum("pc,ci,cj->pij", p_PC, _FEATURES, _FEATURES)
    curvature_P44 = total_P[:, None, None] * (square_P44 - mean_P4[:, :, None] * mean_P4[:, None, :])
    np.add.at(hessian_FF, (index_P4[:, :, None], index_P4[:, None, :]), curvature_P44)
    return gradient_F, hessian_FF


def _summed(score_NF: Any, group_N: Ints) -> Floats:
    """The sandwich's middle: products of the groups' scores, summed; G / (G - 1) against its bias."""
    number_N = np.unique(group_N, return_inverse=True)[1]
    groups = int(number_N.max()) + 1
    member_GN = sparse.csr_array((np.ones(len(number_N)), (number_N, np.arange(len(number_N)))))
    score_GF = member_GN @ score_NF
    middle_FF: Floats = (score_GF.T @ score_GF).toarray() * groups / max(groups - 1, 1)
    return middle_FF


def _prompts(model_N2: Ints, weight_N: Floats, group_N: Ints, models: int) -> Floats:
    """The effective number of groups of each model (M,); 0 for one without votes."""
    number_N = np.unique(group_N, return_inverse=True)[1]
    places = (number_N.repeat(2), model_N2.ravel())
    weight_GM = sparse.csr_array((weight_N.repeat(2), places), shape=(int(number_N.max()) + 1, models))
    sums_M, squares_M = weight_GM.sum(axis=0), weight_GM.power(2).sum(axis=0)
    prompts_M: Floats = np.divide(sums_M**2, squares_M, out=np.zeros(models), where=squares_M > 0).round(6)
    return prompts_M


def _placed(unknown_MM: Floats, prompts_M: Floats) -> Flags:
    """The largest set of models whose differences can be told; of equally large ones the one in most prompts.
    Empty if no two models can be compared.

    unknown_MM: the projection on what cannot be told; a difference can be where it vanishes.
    """
    square_M = np.diag(unknown_MM)
    like_MM = square_M[:, None] + square_M - 2 * unknown_MM < 1e-6
    like_MM &= (prompts_M > 0) & (prompts_M > 0)[:, None]
    best = np.lexsort([like_MM @ prompts_M, like_MM.sum(axis=1)])[-1]
    placed_M: Flags = like_MM[best] & (like_MM[best].sum() > 1)
    return placed_M


def _about_mean(placed_M: Flags, prompts_M: Floats) -> Floats:
    """Contrasts (M, F) of each model with the mean of those that are in enough prompts, if there are any.

    Only differences of strengths mean something.
    """
    enough_M = placed_M & (prompts_M >= FEWEST_PROMPTS)
    centre_M = enough_M if enough_M.sum() > 1 else placed_M
    contrast_MF = np.eye(len(placed_M), len(placed_M) + 2)
    contrast_MF[:, : len(placed_M)] -= centre_M / max(centre_M.sum(), 1)
    return contrast_MF
