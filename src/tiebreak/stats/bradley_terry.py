"""Bradley-Terry strengths of models with ties (Davidson's model), and the position advantage of side A.

Davidson (JASA 65, 1970): for strengths s, P(A) : P(B) : P(tie) = exp(s_a + g/2) : exp(s_b - g/2) :
v exp((s_a + s_b) / 2), where g is the advantage of side A. A multinomial logit, fitted by Newton's method on the
vote mass of each pair of models. Votes of one group (on near-duplicate prompts) are correlated: standard errors are
cluster-robust, from the sandwich estimator (Liang and Zeger, Biometrika 73, 1986). Parameters that are not estimable
(stats.estimable) are NaN.

Dimension letters: N votes, P pairs of models, C classes (a, b, tie), M models, G groups, F parameters (M
strengths, log v, g), R of them estimable.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.special import softmax

from tiebreak.stats.clustered import FEWEST_PROMPTS, effective_groups, t_quantile
from tiebreak.stats.davidson import derivatives
from tiebreak.stats.estimable import estimable, scatter

ELO = 400 / np.log(10)
"""Elo points per unit of strength."""

_STEPS = 100
# rows: a, b, tie; columns: strength of a, strength of b, log v, g
_FEATURES = np.array([[1, 0, 0, 0.5], [0, 1, 0, -0.5], [0.5, 0.5, 1, 0]])

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Strengths:
    """Strengths in Elo points, with margins of half the width of a 95 % interval; NaN where not estimable.

    comparable_: (models,), the largest set of models that can be compared with each other. elo_, margin_: (models,),
    relative to the mean of the comparable models that are in enough prompts. prompts_: (models,), the effective
    number of groups that a model is in. advantage_: points of side A.
    """

    comparable_: Flags
    elo_: Floats
    margin_: Floats
    prompts_: Floats
    advantage_: float
    advantage_margin_: float


def fit(model_N2: Ints, p_NC: Floats, weight_N: Floats, group_N: Ints, models: int) -> Strengths:
    """Fit strengths to votes, given the indices of their models, probabilities of a, b, tie, weights and groups."""
    pair_P2, pair_N = np.unique(model_N2, axis=0, return_inverse=True)
    index_P4: Ints = np.column_stack([pair_P2, np.broadcast_to([models, models + 1], pair_P2.shape)])
    mass_PC: Floats = np.stack([np.bincount(pair_N, weight_N * p_N) for p_N in p_NC.T], axis=1)
    allowed_PC, basis_FR = estimable(index_P4, _FEATURES, mass_PC > 0, models + 2)
    theta_F, p_PC, inverse_FF = maximise(index_P4, mass_PC, _FEATURES, allowed_PC, basis_FR)
    score_N4 = (weight_N[:, None] * (p_NC - p_PC[pair_N])) @ _FEATURES
    middle_FF = clustered_middle(scatter(score_N4, index_P4[pair_N], models + 2), group_N)
    covariance_FF = inverse_FF @ middle_FF @ inverse_FF
    prompts_M = prompts_of(model_N2, weight_N, group_N, models)
    inestimable_FF = np.eye(models + 2) - basis_FR @ basis_FR.T
    comparable_M = largest_comparable(inestimable_FF[:models, :models], prompts_M)
    contrast_MF = centred_contrasts(comparable_M, prompts_M, models + 2)
    error_M = np.sqrt((contrast_MF @ covariance_FF * contrast_MF).sum(axis=1).clip(0))
    is_estimable = inestimable_FF[-1, -1] < 1e-6
    error = np.sqrt(covariance_FF[-1, -1]) * t_quantile(effective_groups(weight_N, group_N))
    return Strengths(
        comparable_M,
        np.where(comparable_M, ELO * contrast_MF @ theta_F, np.nan),
        np.where(comparable_M, ELO * error_M * t_quantile(prompts_M), np.nan),
        prompts_M,
        float(ELO * theta_F[-1]) if is_estimable else np.nan,
        float(ELO * error) if is_estimable else np.nan,
    )


def maximise(
    index_PK: Ints, mass_PC: Floats, features: Floats, allowed_PC: Flags, basis_FR: Floats
) -> tuple[Floats, Floats, Floats]:
    """The maximum-likelihood parameters (F,) of a multinomial logit in the span of the basis, with probabilities (P, C) and
    inverse information (F, F).

    features: of the logits, (C, K) or (P, C, K). allowed_PC: the outcomes that have a probability above 0.
    """
    theta_F = np.zeros(len(basis_FR))
    for _ in range(_STEPS):
        z_PC = (features @ theta_F[index_PK][:, :, None])[:, :, 0]
        p_PC: Floats = softmax(np.where(allowed_PC, z_PC, -np.inf), axis=1)
        gradient_F, information_FF = derivatives(p_PC, index_PK, mass_PC, features, len(theta_F))
        information_RR = basis_FR.T @ information_FF @ basis_FR
        step_F = basis_FR @ np.linalg.solve(information_RR, basis_FR.T @ gradient_F)
        if np.abs(step_F).max(initial=0.0) < 1e-9:
            break
        theta_F += step_F / max(1.0, np.abs(step_F).max())
    return theta_F, p_PC, basis_FR @ np.linalg.inv(information_RR) @ basis_FR.T


def group_sums(score_NF: Any, group_N: Ints) -> Any:
    """The sums of sparse scores over groups, sparse (G, F)."""
    number_N = np.unique(group_N, return_inverse=True)[1]
    member_GN = sparse.csr_array((np.ones(len(number_N)), (number_N, np.arange(len(number_N)))))
    return member_GN @ score_NF


def clustered_middle(score_NF: Any, group_N: Ints) -> Floats:
    """The middle of the sandwich: the sum over groups of outer products of scores, times G / (G - 1) against bias."""
    score_GF = group_sums(score_NF, group_N)
    groups = score_GF.shape[0]
    middle_FF: Floats = (score_GF.T @ score_GF).toarray() * groups / max(groups - 1, 1)
    return middle_FF


def prompts_of(model_N2: Ints, weight_N: Floats, group_N: Ints, models: int) -> Floats:
    """The effective number of groups of each model (M,); 0 for one without votes."""
    number_N = np.unique(group_N, return_inverse=True)[1]
    places = (number_N.repeat(2), model_N2.ravel())
    weight_GM = sparse.csr_array((weight_N.repeat(2), places), shape=(int(number_N.max()) + 1, models))
    sums_M, squares_M = weight_GM.sum(axis=0), weight_GM.power(2).sum(axis=0)
    prompts_M: Floats = np.divide(sums_M**2, squares_M, out=np.zeros(models), where=squares_M > 0).round(6)
    return prompts_M


def largest_comparable(inestimable_MM: Floats, prompts_M: Floats) -> Flags:
    """The largest set of models whose differences are estimable; of equally large ones the one in most prompts.
    Empty if no two models can be compared.

    inestimable_MM: the projection on the inestimable directions; a difference is estimable where it vanishes.
    """
    square_M = np.diag(inestimable_MM)
    comparable_MM = square_M[:, None] + square_M - 2 * inestimable_MM < 1e-6
    comparable_MM &= (prompts_M > 0) & (prompts_M > 0)[:, None]
    best = np.lexsort([comparable_MM @ prompts_M, comparable_MM.sum(axis=1)])[-1]
    comparable_M: Flags = comparable_MM[best] & (comparable_MM[best].sum() > 1)
    return comparable_M


def centred_contrasts(comparable_M: Flags, prompts_M: Floats, parameters: int) -> Floats:
    """Contrasts (M, F) of each model with the mean of the comparable ones, of those in enough prompts if there are any.

    Only differences of strengths are identified.
    """
    frequent_M = comparable_M & (prompts_M >= FEWEST_PROMPTS)
    reference_M = frequent_M if frequent_M.sum() > 1 else comparable_M
    contrast_MF = np.eye(len(comparable_M), parameters)
    contrast_MF[:, : len(comparable_M)] -= reference_M / max(reference_M.sum(), 1)
    return contrast_MF
