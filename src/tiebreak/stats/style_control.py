"""Strengths of models at equal style: length, headings, lists and bold as covariates of Davidson's model.

As LMArena's style control does for Bradley-Terry strengths (Li, Angelopoulos and Chiang 2024, "Does style matter?"), with
ties as an outcome of their own: the covariate is (a - b) / (a + b) of what is counted in both answers, in units of its
root mean square. LMArena subtracts its mean too, which is near 0 and would make a vote depend on which answer is called A.

A judge enters beside votes as in stats.ratings: within each pair of models the rows with votes are a random sample, so that what they and all
rows say by the judge differs by chance alone, whatever it says. Its residuals are from the votes' own fit (Angelopoulos, Duchi and
Zrnic 2023, arXiv:2311.01453, for M-estimators, with the predictions' gradient at a first estimate).

Dimension letters: N rows, P pairs of models, C classes (a, b, tie), M models, S measures of style, F parameters (M strengths, log v,
S coefficients), K of a row, G groups, T contrasts (M strengths, S coefficients).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import block_diag

from tiebreak.stats import ppi
from tiebreak.stats.bradley_terry import (
    centred_contrasts,
    group_sums,
    largest_comparable,
    maximise,
    prompts_of,
)
from tiebreak.stats.clustered import effective_groups, t_quantile
from tiebreak.stats.davidson import FEATURES, pair_parameters
from tiebreak.stats.estimable import estimable, scatter
from tiebreak.stats.ratings import Ratings
from tiebreak.votes.schema import swap_answers

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


def fit(
    model_N2: Ints, y_NC: Floats, style_NS: Floats, group_N: Ints, models: int, f_NC: Floats | None = None
) -> StyleControlled | None:
    """Fit strengths and coefficients to rows with the indices of their models.

    style_NS: what `differences` gives. y_NC: the votes as probabilities of a, b, tie, or a judge's; NaN in rows without votes. f_NC: a
    judge's probabilities of all rows, where there are votes. None where the rows do not tell strengths and style apart.
    """
    rows = _Rows(model_N2, y_NC, style_NS, group_N, models, f_NC)
    if not rows.basis_FR.shape[1] or (votes := rows.maximum(rows.votes_NC)) is None:
        return None
    prompts_M = prompts_of(
        model_N2[rows.is_voted_N], np.ones(len(rows.voted)), group_N[rows.is_voted_N], models
    )
    inestimable_FF = np.eye(len(rows.basis_FR)) - rows.basis_FR @ rows.basis_FR.T
    comparable_M = largest_comparable(inestimable_FF[:models, :models], prompts_M)
    contrast_TF = np.eye(models + style_NS.shape[1], len(rows.basis_FR))
    contrast_TF[models:] = np.eye(len(rows.basis_FR))[models + 1 :]
    contrast_TF[:models] = centred_contrasts(comparable_M, prompts_M, len(rows.basis_FR))
    contrast_TF[:models] *= comparable_M[:, None]
    found, used, error_GT = votes, 0.0, rows.errors(votes, contrast_TF)
    if f_NC is not None:
        control_NC, judged_GF = rows.judge(votes)
        b_GT = judged_GF @ votes.inverse_FF @ contrast_TF.T
        tried = ppi.power_tuned(error_GT[:, :models], b_GT[:, :models])
        judged = rows.maximum(rows.votes_NC - tried * control_NC)
        if judged is not None:
            judged_GT = ppi.residuals(
                rows.errors(judged, contrast_TF), judged_GF @ judged.inverse_FF @ contrast_TF.T
            )
            if (judged_GT[:, :models] ** 2).sum() < (error_GT[:, :models] ** 2).sum():
                found, used, error_GT = judged, tried, judged_GT
    groups = len(np.unique(group_N[rows.is_voted_N]))
    covariance_TT = error_GT.T @ error_GT * groups / max(groups - 1, 1)
    ratings = Ratings(
        comparable_M,
        np.where(comparable_M, contrast_TF[:models] @ found.theta_F, np.nan),
        covariance_TT[:models, :models],
        float(found.theta_F[models]) if rows.allowed_NC[:, 2].any() else -np.inf,
        prompts_M,
        used,
    )
    error_S = np.sqrt(np.diag(covariance_TT)[models:])
    prompts = effective_groups(np.ones(len(rows.voted)), group_N[rows.is_voted_N])
    return StyleControlled(ratings, found.theta_F[models + 1 :], error_S * t_quantile(prompts))


@dataclass(frozen=True)
class _Maximum:
    theta_F: Floats
    p_NC: Floats
    inverse_FF: Floats


class _Rows:
    """The rows of pairs of models that have votes. Each pair has the model of the smaller index as a."""

    def __init__(
        self, model_N2: Ints, y_NC: Floats, style_NS: Floats, group_N: Ints, models: int, f_NC: Floats | None
    ) -> None:
        self.is_voted_N = ~np.isnan(y_NC[:, 0])
        pair_P2, pair_N = np.unique(np.sort(model_N2, axis=1), axis=0, return_inverse=True)
        votes_P = np.bincount(pair_N, self.is_voted_N)
        kept = np.flatnonzero(votes_P[pair_N] > 0)
        swapped_N = (model_N2[:, 0] > model_N2[:, 1])[kept]
        self.voted, self._pair_N = np.flatnonzero(self.is_voted_N[kept]), pair_N[kept]
        self.votes_NC = np.nan_to_num(swap_answers(y_NC[kept], swapped_N))
        self._f_NC = None if f_NC is None else swap_answers(f_NC[kept], swapped_N)
        count_P = np.bincount(self._pair_N, minlength=len(pair_P2))
        self._share_N = self.is_voted_N[kept] - (votes_P / count_P.clip(1))[self._pair_N]
        style_NS = np.where(swapped_N[:, None], -style_NS[kept], style_NS[kept])
        styles = style_NS.shape[1]
        self._features_NCK = np.zeros((len(kept), 3, 3 + styles))
        self._features_NCK[:, :, :3] = FEATURES
        self._features_NCK[:, 0, 3:], self._features_NCK[:, 1, 3:] = style_NS / 2, -style_NS / 2
        style_index_NS = np.broadcast_to(models + 1 + np.arange(styles), (len(kept), styles))
        index_N3 = pair_parameters(pair_P2, models)[self._pair_N]
        self._index_NK: Ints = np.column_stack([index_N3, style_index_NS])
        self._group_N, self._first_style = np.unique(group_N, return_inverse=True)[1][kept], models + 1
        mass_PC = ppi.sums(self.votes_NC, self._pair_N, len(pair_P2))
        allowed_PC, basis_FR = estimable(pair_parameters(pair_P2, models), FEATURES, mass_PC > 0, models + 1)
        self.allowed_NC = allowed_PC[self._pair_N]
        differs_S = (style_NS[self.voted] != 0).any(axis=0)
        self.basis_FR: Floats = block_diag(basis_FR, np.eye(styles)[:, differs_S])

    def maximum(self, mass_NC: Floats) -> _Maximum | None:
        """The most likely parameters, the probabilities and the inverse information; None where there are none."""
        try:
            found = _Maximum(
                *maximise(self._index_NK, mass_NC, self._features_NCK, self.allowed_NC, self.basis_FR)
            )
        except np.linalg.LinAlgError:
            return None
        condition = np.linalg.cond(self.basis_FR.T @ found.inverse_FF @ self.basis_FR)
        is_endless = np.abs(found.theta_F[self._first_style :]).max(initial=0.0) > _LARGEST
        gradient_F = np.zeros(len(self.basis_FR))
        residual_NC = mass_NC - mass_NC.sum(axis=1, keepdims=True) * found.p_NC
        np.add.at(gradient_F, self._index_NK, self._scores(residual_NC))
        is_maximum = np.abs(self.basis_FR.T @ gradient_F).max(initial=0.0) < 1e-6
        return found if is_maximum and condition <= _WORST_CONDITION and not is_endless else None

    def errors(self, found: _Maximum, contrast_TF: Floats) -> Floats:
        """What the votes of each group add to the errors (G, T) of contrasts."""
        residual_NC = np.zeros_like(self.votes_NC)
        residual_NC[self.voted] = self.votes_NC[self.voted] - found.p_NC[self.voted]
        return self._by_group(self._scores(residual_NC)) @ found.inverse_FF @ contrast_TF.T

    def judge(self, found: _Maximum) -> tuple[Floats, Floats]:
        """What the judge adds to the rows' votes (N, C), of sum 0 in expectation, and to the scores of groups (G, F)."""
        assert self._f_NC is not None
        f_NC = np.where(self.allowed_NC, self._f_NC, 0.0)
        f_NC /= f_NC.sum(axis=1, keepdims=True).clip(min=1e-300)
        off_NC = f_NC - found.p_NC
        score_NK = self._scores(off_NC)
        count_P = np.bincount(self._pair_N).clip(1)
        score_NK -= (ppi.sums(score_NK, self._pair_N) / count_P[:, None])[self._pair_N]
        return self._share_N[:, None] * off_NC, self._by_group(self._share_N[:, None] * score_NK)

    def _scores(self, residual_NC: Floats) -> Floats:
        found_NK: Floats = (residual_NC[:, None] @ self._features_NCK)[:, 0]
        return found_NK

    def _by_group(self, score_NK: Floats) -> Floats:
        scores_NF = scatter(score_NK, self._index_NK, len(self.basis_FR))
        found_GF: Floats = group_sums(scores_NF, self._group_N).toarray()
        return found_GF
