"""Length-controlled win rate, as AlpacaEval 2 has it (Dubois, Galambosi, Liang and Hashimoto 2024, arXiv:2404.04475).

A logistic regression of the preference on a constant and tanh(difference in length / its standard deviation); the win rate
is the prediction at equal length. Of their three terms the difficulty of an instruction is left out: it is known for
their 805 prompts alone, and so are the votes on shortened and lengthened answers that shrink the length's weight there.

Dimension letters: N rows, G groups, F parameters (constant, length).
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from tiebreak.stats.clustered import FEWEST_PROMPTS, effective_groups, t_quantile
from tiebreak.stats.ppi import sums

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_STEPS = 100


@dataclass(frozen=True)
class LengthControlled:
    """A win rate at equal length with its 95 % interval, NaN for fewer than FEWEST_PROMPTS. coefficient: of the length."""

    value: float
    low: float
    high: float
    coefficient: float


def win_rate(y_N: Floats, length_a_N: Floats, length_b_N: Floats, group_N: Ints) -> LengthControlled:
    """The win rate of answers a at equal length.

    y_N: P(a wins) + P(tie) / 2, of votes or a judge. The standard error is a sandwich over groups, on the log odds.
    Everything is NaN where no maximum exists, as where one side always wins, and where one side's answers are all the longer ones: what
    would be at equal length is then not seen.
    """
    difference_N = length_a_N - length_b_N
    if (difference_N > 0).all() or (difference_N < 0).all():
        return LengthControlled(math.nan, math.nan, math.nan, math.nan)
    spread = difference_N.std(ddof=1) if len(y_N) > 1 else 0.0
    x_NF = np.column_stack(
        [np.ones(len(y_N)), np.tanh(difference_N / spread) if spread > 0 else np.zeros(len(y_N))]
    )
    x_NF = x_NF[:, : 1 + (spread > 0)]
    theta_F = np.zeros(x_NF.shape[1])
    for _ in range(_STEPS):
        p_N = expit(x_NF @ theta_F)
        information_FF = x_NF.T @ ((p_N * (1 - p_N))[:, None] * x_NF)
        if np.linalg.det(information_FF) <= 1e-9 * len(y_N) ** len(theta_F):
            return LengthControlled(math.nan, math.nan, math.nan, math.nan)
        step_F = np.linalg.solve(information_FF, x_NF.T @ (y_N - p_N))
        theta_F += step_F / max(1.0, np.abs(step_F).max())
        if np.abs(step_F).max() < 1e-10:
            break
    score_GF = sums((y_N - p_N)[:, None] * x_NF, np.unique(group_N, return_inverse=True)[1])
    inverse_FF = np.linalg.inv(information_FF)
    groups = len(score_GF)
    variance = (inverse_FF @ (score_GF.T @ score_GF) @ inverse_FF)[0, 0] * groups / max(groups - 1, 1)
    prompts = effective_groups(np.ones(len(y_N)), group_N)
    half = float(t_quantile(prompts)) * math.sqrt(variance) if prompts >= FEWEST_PROMPTS else math.nan
    low, value, high = expit(theta_F[0] + np.array([-half, 0.0, half])).tolist()
    return LengthControlled(value, low, high, float(theta_F[1]) if len(theta_F) > 1 else 0.0)
