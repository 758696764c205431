"""Tests of calibration: a score test, and the calibration error beside its distribution under calibration.

Votes on one prompt are correlated, so sums and resamples are over whole groups of rows; the only assumption about a
group is that a calibrated model's residuals have mean 0 given its prediction. Soft labels need no special treatment.
Size and power by simulation: benchmarks/coverage.py.

Dimension letters: N rows, C classes (a, b, tie), K directions, B bins of all models, G groups, S draws.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import betainc

from tiebreak.stats.calibration import FLOOR, TemperatureScaling
from tiebreak.stats.metrics import MIN_GROUPS, Array, Bootstrap, confidence_gaps, group_sums, targets

Direction = Literal["sharpness", "ties", "sides"]

ROUNDING = 1e-9
"""The norm up to which a column of scores counts as zero."""

DIRECTIONS: tuple[Direction, ...] = ("sharpness", "ties", "sides")


@dataclass(frozen=True)
class CalibrationError:
    """The ECE of predictions, the mean over models, and its distribution for calibrated ones.

    when_calibrated: the mean of draws under calibration, which is the bias. limit: their 95 % quantile (or that of
    another confidence). p: the share of draws no less than `value`. All three are None where there are
    fewer than MIN_GROUPS groups.
    """

    value: float
    when_calibrated: float | None = None
    limit: float | None = None
    p: float | None = None


@dataclass(frozen=True)
class CalibrationTest:
    """The result of the calibration test, and the miscalibration in each direction.

    p: small for miscalibrated probabilities; None where there are fewer than MIN_GROUPS groups. worst: the direction
    that is farthest from calibrated, in standard errors. temperature: the best one on these rows, above 1 for an
    overconfident model. tie_gap: mean P(tie) less the share of ties. lead_gap: the same of P(a) - P(b).
    """

    p: float | None
    worst: Direction
    temperature: float
    tie_gap: float
    lead_gap: float


def calibration_error(
    predictions: Sequence[Array],
    labels: ArrayLike,
    bootstrap: Bootstrap,
    groups_N: NDArray[np.integer] | None = None,
) -> CalibrationError:
    """The ECE of several models (n, 3) on the same rows, with its null distribution by the wild cluster bootstrap.

    A calibrated model's gaps have mean 0, so a draw gives each group's sums of them, the same for all models, a random
    sign (Rademacher weights: Liu 1988; by cluster: Cameron, Gelbach and Miller 2008). It preserves the correlation
    within groups, which labels drawn from the probabilities would not. p is (k + 1) / (samples + 1), so that it is
    never 0 (Davison and Hinkley 1997).
    """
    gaps_NB = np.concatenate([confidence_gaps(p_NC, labels) for p_NC in predictions], axis=1)
    sums_GB, _ = group_sums(gaps_NB, groups_N)
    scale = len(gaps_NB) * len(predictions)
    value = float(np.abs(sums_GB.sum(axis=0)).sum()) / scale
    if len(sums_GB) < MIN_GROUPS:
        return CalibrationError(value)
    random = np.random.default_rng(bootstrap.seed)
    signs = (2.0 * random.integers(2, size=len(sums_GB)) - 1 for _ in range(bootstrap.samples))
    draws_S = np.array([np.abs(signs_G @ sums_GB).sum() for signs_G in signs]) / scale
    return CalibrationError(
        value,
        float(draws_S.mean()),
        float(np.quantile(draws_S, bootstrap.confidence)),
        float(((draws_S >= value).sum() + 1) / (len(draws_S) + 1)),
    )


def calibration_test(
    p_NC: Array, labels: ArrayLike, groups_N: NDArray[np.integer] | None = None
) -> CalibrationTest:
    """The score test of T = 1, b = 0 in softmax(log p / T + b): sharpness, level of ties, level of either side.

    It fits nothing, so its size is right for any model. The statistic is the R^2 of a regression of ones on
    the groups' scores (outer-product form: Davidson and MacKinnon 1993, chapter 13), which is Hotelling's T^2 / (T^2 +
    G - 1) of scores with mean 0; its Beta(K / 2, (G - K) / 2) is exact for normal scores. Directions that do not
    vary, such as the sharpness of class shares, are dropped from K.
    """
    y_NC = targets(labels)
    scores_NK = _scores(p_NC, y_NC)
    scores_GK, _ = group_sums(scores_NK, groups_N)
    length_K = np.linalg.norm(scores_GK, axis=0)
    length_K = np.where(length_K > ROUNDING, length_K, np.inf)
    t_K = np.abs(scores_GK.sum(axis=0)) / length_K
    lead_N = (p_NC - y_NC)[:, 0] - (p_NC - y_NC)[:, 1]
    return CalibrationTest(
        p=_p_value(scores_GK / length_K) if len(scores_GK) >= MIN_GROUPS else None,
        worst=DIRECTIONS[int(t_K.argmax())],
        temperature=TemperatureScaling(prior=0.0).fit(p_NC, y_NC).temperature_,
        tie_gap=float((p_NC - y_NC)[:, 2].mean()),
        lead_gap=float(lead_N.mean()),
    )


def _scores(p_NC: Array, y_NC: Array) -> Array:
    """The gradient (n, 3) of the log-likelihood in 1 / T, the tie's b, and a's b less b's."""
    residual_NC = y_NC - p_NC
    sharpness_N = (residual_NC * np.log(np.maximum(p_NC, FLOOR))).sum(axis=1)
    return np.column_stack([sharpness_N, residual_NC[:, 2], residual_NC[:, 0] - residual_NC[:, 1]])


def _p_value(scores_GK: Array) -> float:
    ones_G = np.ones(len(scores_GK))
    weights_K, _, rank, _ = np.linalg.lstsq(scores_GK, ones_G, rcond=1e-9)
    if rank == 0:
        return 1.0
    unexplained = float(((ones_G - scores_GK @ weights_K) ** 2).mean())
    return float(betainc((len(ones_G) - rank) / 2, rank / 2, min(unexplained, 1.0)))
