"""Strengths of models in Davidson's model, with their covariance, from votes, from a judge, or from votes and a judge.

The score of Davidson's likelihood (stats.davidson) is linear in the votes, so that a judge's probabilities f enter as in
prediction-powered inference (stats.ppi; Angelopoulos, Duchi and Zrnic 2023, arXiv:2311.01453, for M-estimators): each vote y
of a pair of models becomes y - w (f - mean of f over all judged rows of this pair). What is added has mean 0 within each
pair, so that the strengths are those that the votes alone estimate, whatever the judge says and however votes are spread
over pairs, if those of a pair are on a random sample of its rows. The weight w makes the sum of the strengths' variances
smallest. Variances are sandwiches over groups of rows, such as those on one prompt.

Dimension letters: N rows, P pairs of models, C classes (a, b, tie), M models, G groups, F parameters (M strengths, log v).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.special import softmax

from tiebreak.stats import ppi
from tiebreak.stats.bradley_terry import centred_contrasts, largest_comparable, maximise, prompts_of
from tiebreak.stats.clustered import t_quantile
from tiebreak.stats.davidson import FEATURES, pair_parameters
from tiebreak.stats.estimable import estimable, scatter

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Ratings:
    """Strengths in log odds: strengths_[i] - strengths_[j] is the logarithm of P(i wins) / P(j wins).

    strengths_: (M,), of mean 0 over the comparable models that are in enough prompts, and NaN where not comparable_.
    covariance_: (M, M), 0 there. log_tie_: log v. prompts_: (M,), the effective number of groups with rows of a model.
    weight_: of the judge.
    """

    comparable_: Flags
    strengths_: Floats
    covariance_: Floats
    log_tie_: float
    prompts_: Floats
    weight_: float

    @property
    def margins(self) -> Floats:
        """Half the widths (M,) of 95 % intervals of the strengths, by Student's t for the groups of each model."""
        half_M: Floats = np.sqrt(np.diag(self.covariance_)) * t_quantile(self.prompts_)
        return np.where(self.comparable_, half_M, np.nan)

    def gaps(self, a_P: Ints, b_P: Ints) -> tuple[Floats, Floats]:
        """The differences of strength (P,) of pairs, and half the widths of their 95 % intervals."""
        variance_P = self.covariance_[a_P, a_P] + self.covariance_[b_P, b_P] - 2 * self.covariance_[a_P, b_P]
        prompts_P = np.minimum(self.prompts_[a_P], self.prompts_[b_P])
        half_P: Floats = np.sqrt(variance_P.clip(0)) * t_quantile(prompts_P)
        return self.strengths_[a_P] - self.strengths_[b_P], half_P

    def probabilities(self, a_P: Ints, b_P: Ints) -> Floats:
        """P(a wins), P(b wins), P(tie), (P, 3)."""
        gap_P = self.strengths_[a_P] - self.strengths_[b_P]
        z_PC = np.stack([gap_P / 2, -gap_P / 2, np.full(len(gap_P), self.log_tie_)], axis=1)
        p_PC: Floats = softmax(z_PC, axis=1)
        return p_PC


def fit(
    model_N2: Ints,
    y_NC: Floats,
    group_N: Ints,
    models: int,
    f_NC: Floats | None = None,
    weight: float | None = None,
) -> Ratings:
    """Fit strengths to rows with the indices of their models.

    y_NC: the votes as probabilities of a, b, tie, or a judge's; NaN in rows without votes. f_NC: a judge's probabilities of
    all rows, where there are votes. weight: of the judge, tuned by default. Raises ValueError without votes.
    """
    rows = _Rows(model_N2, y_NC, group_N, models, f_NC)
    parameters = models + 1
    index_P3 = pair_parameters(rows.pair_P2, models)
    allowed_PC, basis_FR = estimable(index_P3, FEATURES, rows.votes_PC > 0, parameters)
    theta_F, p_PC, inverse_FF = maximise(index_P3, rows.votes_PC, FEATURES, allowed_PC, basis_FR)
    prompts_M = prompts_of(model_N2[rows.voted_N], np.ones(len(rows.voted_N)), group_N[rows.voted_N], models)
    inestimable_FF = np.eye(parameters) - basis_FR @ basis_FR.T
    comparable_M = largest_comparable(inestimable_FF[:models, :models], prompts_M)
    contrast_MF = centred_contrasts(comparable_M, prompts_M, parameters) * comparable_M[:, None]
    towards_FM = inverse_FF @ contrast_MF.T
    used, error_GM = 0.0, rows.scores(p_PC) @ towards_FM
    if f_NC is not None:
        judged_GF, control_PC = rows.judge(allowed_PC)
        tried = ppi.power_tuned(error_GM, judged_GF @ towards_FM) if weight is None else weight
        mass_PC = rows.votes_PC - tried * control_PC
        judged_F, p_PC, inverse_FF = maximise(index_P3, mass_PC, FEATURES, allowed_PC, basis_FR)
        towards_FM = inverse_FF @ contrast_MF.T
        a_GM, b_GM = rows.scores(p_PC) @ towards_FM, judged_GF @ towards_FM
        judged_GM = ppi.residuals(a_GM, b_GM) if weight is None else a_GM - tried * b_GM
        is_better = weight is not None or (judged_GM**2).sum() < (error_GM**2).sum()
        # with too few votes for the judge's sums there is no maximum
        if is_better and _is_maximum(p_PC, mass_PC, basis_FR, index_P3):
            theta_F, used, error_GM = judged_F, tried, judged_GM
    voted_groups = len(np.unique(group_N[rows.voted_N]))
    return Ratings(
        comparable_M,
        np.where(comparable_M, contrast_MF @ theta_F, np.nan),
        error_GM.T @ error_GM * voted_groups / max(voted_groups - 1, 1),
        float(theta_F[-1]) if allowed_PC[:, 2].any() else -np.inf,
        prompts_M,
        used,
    )


class _Rows:
    """Rows by pairs and groups. Each pair has the model of the smaller index as a."""

    def __init__(self, model_N2: Ints, y_NC: Floats, group_N: Ints, models: int, f_NC: Floats | None) -> None:
        swapped_N = model_N2[:, 0] > model_N2[:, 1]
        self.y_NC = _swapped(y_NC, swapped_N)
        self.f_NC = None if f_NC is None else _swapped(f_NC, swapped_N)
        self.voted_N = np.flatnonzero(~np.isnan(y_NC).any(axis=1))
        if not len(self.voted_N):
            raise ValueError("no votes")
        pair_N2 = np.sort(model_N2, axis=1)
        code_N = pair_N2[:, 0] * models + pair_N2[:, 1]
        codes_P, pair_V = np.unique(code_N[self.voted_N], return_inverse=True)
        place_N = np.searchsorted(codes_P, code_N).clip(max=len(codes_P) - 1)
        self.kept_N = np.flatnonzero(codes_P[place_N] == code_N)
        """Rows of pairs of models that have votes."""
        self.pair_N, self._pair_V = place_N, pair_V
        self.pair_P2 = np.stack(np.divmod(codes_P, models), axis=1)
        self.index_P3 = pair_parameters(self.pair_P2, models)
        self._number_N = np.unique(group_N, return_inverse=True)[1]
        self.groups, self._parameters = int(self._number_N.max()) + 1, models + 1
        self.votes_PC = self._by_pair(self.y_NC[self.voted_N], pair_V)

    def _by_pair(self, x_NC: Floats, pair_N: Ints) -> Floats:
        return np.stack([np.bincount(pair_N, x_N, len(self.pair_P2)) for x_N in x_NC.T], axis=1)

    def scores(self, p_PC: Floats) -> Floats:
        """The sums (G, F) over groups of the votes' scores at the probabilities of the pairs."""
        return self._by_group(self.voted_N, self.y_NC[self.voted_N] - p_PC[self._pair_V])

    def judge(self, allowed_PC: Flags) -> tuple[Floats, Floats]:
        """What the judge adds to the scores of groups (G, F), and to the votes of pairs (P, C)."""
        assert self.f_NC is not None
        rows, pair_N = self.kept_N, self.pair_N[self.kept_N]
        f_NC = np.where(allowed_PC[pair_N], self.f_NC[rows], 0.0)
        f_NC /= f_NC.sum(axis=1, keepdims=True).clip(min=1e-300)
        count_P = np.bincount(pair_N, minlength=len(self.pair_P2))
        off_NC = f_NC - (self._by_pair(f_NC, pair_N) / count_P[:, None])[pair_N]
        votes_P = np.bincount(self._pair_V, minlength=len(self.pair_P2))
        voted_N = np.isin(rows, self.voted_N)
        share_N = voted_N - (votes_P / count_P)[pair_N]
        control_PC = self._by_pair(off_NC[voted_N], pair_N[voted_N])
        return self._by_group(rows, share_N[:, None] * off_NC), control_PC

    def _by_group(self, rows: Ints, residual_NC: Floats) -> Floats:
        score_NF = scatter(residual_NC @ FEATURES, self.index_P3[self.pair_N[rows]], self._parameters)
        member_GN = sparse.csr_array(
            (np.ones(len(rows)), (self._number_N[rows], np.arange(len(rows)))), shape=(self.groups, len(rows))
        )
        score_GF: Floats = (member_GN @ score_NF).toarray()
        return score_GF


def _swapped(x_NC: Floats, where_N: Flags) -> Floats:
    """Probabilities with the classes a and b exchanged where a mask says."""
    found_NC: Floats = np.where(where_N[:, None], x_NC[:, [1, 0, 2]], x_NC)
    return found_NC


def _is_maximum(p_PC: Floats, mass_PC: Floats, basis_FR: Floats, index_P3: Ints) -> bool:
    """True if the gradient vanishes in the span of the basis."""
    residual_PC = mass_PC - mass_PC.sum(axis=1, keepdims=True) * p_PC
    gradient_F = np.zeros(len(basis_FR))
    np.add.at(gradient_F, index_P3, residual_PC @ FEATURES)
    return bool(np.abs(basis_FR.T @ gradient_F).max(initial=0.0) < 1e-6)
