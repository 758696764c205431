"""Length-controlled win rate, as AlpacaEval 2 has it (Dubois, Galambosi, Liang and Hashimoto 2024, arXiv:2404.04475).

A logistic regression of the preference on a constant and tanh(difference in length / its standard deviation); the win rate
is the prediction at equal length. Of their three terms the difficulty of an instruction is left out: it is known for
their 805 prompts alone, and so are the votes on shortened and lengthened answers that shrink the length's weight there.

Beside votes a judge is a control variate, as in stats.ratings: what its residuals add has mean 0 where the votes are on a random sample
of the rows. Standard errors are those of the jackknife over groups, from one Newton step each (MacKinnon and White, Journal of
Econometrics 29, 1985).

Dimension letters: N rows, G groups, F parameters (constant, length).
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from tiebreak.stats import ppi
from tiebreak.stats.clustered import FEWEST_PROMPTS, effective_groups, t_quantile

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_STEPS = 100


@dataclass(frozen=True)
class LengthControlled:
    """A win rate at equal length with its 95 % interval, NaN for fewer than FEWEST_PROMPTS, or where one of them decides what length does.

    coefficient: of the length. weight: of the judge.
    """

    value: float
    low: float
    high: float
    coefficient: float
    weight: float = 0.0


_NONE = LengthControlled(math.nan, math.nan, math.nan, math.nan)


def win_rate(
    y_N: Floats, length_a_N: Floats, length_b_N: Floats, group_N: Ints, f_N: Floats | None = None
) -> LengthControlled:
    """The win rate of answers a at equal length.

    y_N: P(a wins) + P(tie) / 2, of votes or a judge; NaN in rows without votes. f_N: a judge's of all rows, where there are votes.
    The interval is of the log odds, by Student's t for the groups. Everything is NaN where no maximum exists, as where one side always
    wins, and where one side's answers are all the longer ones: what would be at equal length is then not seen.
    """
    voted_N = ~np.isnan(y_N)
    difference_N = length_a_N - length_b_N
    if (difference_N[voted_N] > 0).all() or (difference_N[voted_N] < 0).all():
        return _NONE
    x_NF, number_N = _features(difference_N), np.unique(group_N, return_inverse=True)[1]
    votes = _fit(x_NF[voted_N], y_N[voted_N], np.zeros(x_NF.shape[1]))
    if votes is None:
        return _NONE
    theta_F, used = votes, 0.0
    error_G = _jackknife(x_NF[voted_N], y_N[voted_N], votes, number_N[voted_N], int(number_N.max()) + 1)
    if f_N is not None:
        off_NF = (f_N - expit(x_NF @ votes))[:, None] * x_NF
        share_N = voted_N - voted_N.mean()
        judged_GF = ppi.sums(share_N[:, None] * (off_NF - off_NF.mean(axis=0)), number_N)
        b_G1 = judged_GF @ np.linalg.inv(_information(x_NF[voted_N], votes))[:, :1]
        tried = ppi.power_tuned(error_G[:, None], b_G1)
        judged = _fit(x_NF[voted_N], y_N[voted_N], tried * judged_GF.sum(axis=0))
        judged_G = ppi.residuals(error_G[:, None], b_G1)[:, 0]
        if judged is not None and judged_G @ judged_G < error_G @ error_G:
            theta_F, used, error_G = judged, tried, judged_G
    prompts = effective_groups(np.ones(int(voted_N.sum())), group_N[voted_N])
    error = math.sqrt(float(error_G @ error_G))
    half = float(t_quantile(prompts)) * error if prompts >= FEWEST_PROMPTS else math.nan
    low, value, high = expit(theta_F[0] + np.array([-half, 0.0, half])).tolist()
    return LengthControlled(value, low, high, float(theta_F[1]) if len(theta_F) > 1 else 0.0, used)


def _features(difference_N: Floats) -> Floats:
    """A constant, and where lengths differ their squashed difference, (N, F)."""
    spread = difference_N.std(ddof=1) if len(difference_N) > 1 else 0.0
    one_N = np.ones(len(difference_N))
    return np.column_stack([one_N, np.tanh(difference_N / spread)] if spread > 0 else [one_N])


def _fit(x_NF: Floats, y_N: Floats, offset_F: Floats) -> Floats | None:
    """The parameters at which the gradient of the log-likelihood is the offset; None where there are none."""
    theta_F = np.zeros(x_NF.shape[1])
    for _ in range(_STEPS):
        information_FF = _information(x_NF, theta_F)
        if np.linalg.det(information_FF) <= 1e-9 * len(y_N) ** len(theta_F):
            return None
        step_F = np.linalg.solve(information_FF, x_NF.T @ (y_N - expit(x_NF @ theta_F)) - offset_F)
        theta_F += step_F / max(1.0, np.abs(step_F).max())
        if np.abs(step_F).max() < 1e-10:
            return theta_F
    return None


def _information(x_NF: Floats, theta_F: Floats) -> Floats:
    p_N = expit(x_NF @ theta_F)
    found_FF: Floats = x_NF.T @ ((p_N * (1 - p_N))[:, None] * x_NF)
    return found_FF


def _jackknife(x_NF: Floats, y_N: Floats, theta_F: Floats, number_N: Ints, groups: int) -> Floats:
    """What each group adds to the error of the constant (G,): what would change without it; its root sum of squares is the error.

    NaN where without some group the rest would not tell.
    """
    p_N = expit(x_NF @ theta_F)
    score_GF = ppi.sums((y_N - p_N)[:, None] * x_NF, number_N, groups)
    square_NFF = (p_N * (1 - p_N))[:, None, None] * x_NF[:, :, None] * x_NF[:, None, :]
    own_GFF = ppi.sums(square_NFF.reshape(len(x_NF), -1), number_N, groups)
    left_GFF = _information(x_NF, theta_F) - own_GFF.reshape(groups, *square_NFF.shape[1:])
    if (np.linalg.det(left_GFF) <= 1e-9 * len(x_NF) ** len(theta_F)).any():
        return np.full(groups, math.nan)
    changes_G: Floats = np.linalg.solve(left_GFF, score_GF[:, :, None])[:, 0, 0].astype(np.float64)
    voted = len(np.unique(number_N))
    return changes_G * math.sqrt((voted - 1) / voted)
