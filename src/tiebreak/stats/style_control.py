"""Strengths of models at equal style: length, headings, lists and bold as covariates of Davidson's model.

As LMArena's style control does for Bradley-Terry strengths (Li, Angelopoulos and Chiang 2024, "Does style matter?"), with
ties as an outcome of their own: the covariate is (a - b) / (a + b) of what is counted in both answers, in units of its
root mean square. LMArena subtracts its mean too, which is near 0 and would make a vote depend on which answer is called A.

Dimension letters: N rows, C classes (a, b, tie), M models, S measures of style, F parameters (M strengths, log v, S
coefficients), K of a row.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import block_diag

from tiebreak.stats.bradley_terry import (
    centred_contrasts,
    clustered_middle,
    largest_comparable,
    maximise,
    prompts_of,
)
from tiebreak.stats.clustered import effective_groups, t_quantile
from tiebreak.stats.davidson import FEATURES, pair_parameters
from tiebreak.stats.estimable import estimable, scatter
from tiebreak.stats.ratings import Ratings

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_LARGEST = 20.0
"""A coefficient beyond goes on without end: the rows' style tells who wins."""
_WORST_CONDITION = 1e10
"""Of the information; beyond, up to rounding, style is a function of who is compared, or one measure of others."""


@dataclass(frozen=True)
class StyleControlled:
    """Strengths at equal style, and the coefficients (S,) with half the widths of their 95 % intervals.

    A coefficient is what one root mean square of the difference in style adds to the log odds; 0 where nothing differs.
    """

    ratings: Ratings
    coefficients_: Floats
    margins_: Floats


def differences(a_NS: Floats, b_NS: Floats) -> Floats:
    """The differences (N, S) in style of two answers, from counts of 0 or more, in units of their root mean square."""
    total_NS = a_NS + b_NS
    ratio_NS = np.divide(a_NS - b_NS, total_NS, out=np.zeros_like(total_NS, np.float64), where=total_NS > 0)
    size_S = np.sqrt((ratio_NS**2).mean(axis=0))
    found_NS: Floats = ratio_NS / np.where(size_S > 0, size_S, 1.0)
    return found_NS


def fit(model_N2: Ints, y_NC: Floats, style_NS: Floats, group_N: Ints, models: int) -> StyleControlled | None:
    """Fit strengths and coefficients to rows with the indices of their models, all of them with votes or judged.

    style_NS: what `differences` gives. y_NC: probabilities of a, b, tie. None where the rows do not tell strengths and style apart.
    """
    parameters, styles = models + 1, style_NS.shape[1]
    features_NCK = np.zeros((len(y_NC), 3, 3 + styles))
    features_NCK[:, :, :3] = FEATURES
    features_NCK[:, 0, 3:], features_NCK[:, 1, 3:] = style_NS / 2, -style_NS / 2
    style_index_NS = np.broadcast_to(parameters + np.arange(styles), (len(y_NC), styles))
    index_NK: Ints = np.column_stack([pair_parameters(model_N2, models), style_index_NS])
    pair_P2, pair_N = np.unique(model_N2, axis=0, return_inverse=True)
    mass_PC = np.stack([np.bincount(pair_N, y_N) for y_N in y_NC.T], axis=1)
    allowed_PC, basis_FR = estimable(pair_parameters(pair_P2, models), FEATURES, mass_PC > 0, parameters)
    basis_FR = block_diag(basis_FR, np.eye(styles)[:, (style_NS != 0).any(axis=0)])
    if not basis_FR.shape[1]:
        return None
    try:
        theta_F, p_NC, inverse_FF = maximise(index_NK, y_NC, features_NCK, allowed_PC[pair_N], basis_FR)
    except np.linalg.LinAlgError:
        return None
    is_singular = np.linalg.cond(basis_FR.T @ inverse_FF @ basis_FR) > _WORST_CONDITION
    if is_singular or np.abs(theta_F[parameters:]).max(initial=0.0) > _LARGEST:
        return None
    residual_NK = ((y_NC - p_NC)[:, None] @ features_NCK)[:, 0]
    middle_FF = clustered_middle(scatter(residual_NK, index_NK, parameters + styles), group_N)
    covariance_FF = inverse_FF @ middle_FF @ inverse_FF
    weight_N = np.ones(len(y_NC))
    prompts_M = prompts_of(model_N2, weight_N, group_N, models)
    inestimable_FF = np.eye(len(theta_F)) - basis_FR @ basis_FR.T
    comparable_M = largest_comparable(inestimable_FF[:models, :models], prompts_M)
    contrast_MF = centred_contrasts(comparable_M, prompts_M, len(theta_F)) * comparable_M[:, None]
    ratings = Ratings(
        comparable_M,
        np.where(comparable_M, contrast_MF @ theta_F, np.nan),
        contrast_MF @ covariance_FF @ contrast_MF.T,
        float(theta_F[models]) if allowed_PC[:, 2].any() else -np.inf,
        prompts_M,
        0.0,
    )
    error_S = np.sqrt(np.diag(covariance_FF)[parameters:].clip(0))
    return StyleControlled(
        ratings, theta_F[parameters:], error_S * t_quantile(effective_groups(weight_N, group_N))
    )
