"""Metrics of probabilities: log loss, accuracy and Brier score with intervals, and the calibration error.

Dimension letters: N rows, C classes (a, b, tie), S resamples, M means, K figures, B bins, G groups.

Every figure with an interval is a function of means over rows. An interval covers the sampling of rows, and no other
source of variance: the models are fixed.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri, stdtrit

from tiebreak.stats.clustered import wilson

CLIP = 1e-15
"""The least probability in the log loss; smaller ones are clipped (the competition's own rule)."""

BINS = 15
"""Bins of the calibration error, as in Guo et al. 2017."""

METRICS = ("log_loss", "accuracy", "brier")

MIN_GROUPS = 30
"""The fewest groups of rows for an interval or a test."""

POWER = 0.8
"""The power of the test for the minimum detectable difference."""

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A figure and the ends of its confidence interval; None where there are fewer than MIN_GROUPS groups."""

    value: float
    low: float | None = None
    high: float | None = None


def _identity(means_SM: Array) -> Array:
    return means_SM


@dataclass(frozen=True)
class Bootstrap:
    """The bootstrap for intervals: `samples` resamples of rows, or of whole groups of rows."""

    samples: int = 1000
    confidence: float = 0.95
    seed: int = 0

    def means(self, values_NM: Array, groups_N: NDArray[np.integer] | None = None) -> Array:
        """Means (S, M) of the columns over resampled rows.

        With `groups_N` (any integers) rows of one group, such as the votes on one prompt, are drawn
        together: the cluster bootstrap (Cameron, Gelbach and Miller 2008) of a ratio of sums.
        """
        sums_GM, sizes_G = group_sums(values_NM, groups_N)
        columns = np.column_stack([sums_GM, sizes_G])
        random = np.random.default_rng(self.seed)
        count = len(sizes_G)
        drawn = np.stack(
            [
                np.bincount(random.integers(count, size=count), minlength=count) @ columns
                for _ in range(self.samples)
            ]
        )
        means: Array = drawn[:, :-1] / drawn[:, -1:]
        return means

    def estimates(
        self,
        values_NM: Array,
        groups_N: NDArray[np.integer] | None = None,
        of: Callable[[Array], Array] = _identity,
        bounds: Sequence[tuple[float, float] | None] | None = None,
    ) -> list[Estimate]:
        """Estimates with intervals of the column means, or of the figures (S, K) that `of` computes from means (S, M).

        An interval is the figure -+ t standard errors, which are the standard deviation of the resampled
        figures, of Student's t with as many degrees of freedom as groups less one. Percentiles of the resamples are
        too narrow for some hundred groups (benchmarks/coverage.py). A figure with bounds has an interval within
        them (`within`), which near them is not too narrow.
        """
        value_K = of(values_NM.mean(axis=0)[None])[0]
        groups = len(values_NM) if groups_N is None else len(np.unique(groups_N))
        if groups < MIN_GROUPS:
            return [Estimate(float(value)) for value in value_K]
        error_K = of(self.means(values_NM, groups_N)).std(axis=0) * math.sqrt(groups / (groups - 1))
        quantile = float(stdtrit(groups - 1, (1 + self.confidence) / 2))
        return [
            Estimate(v, *within(v, error, ends, groups, quantile))
            if ends
            else Estimate(v, v - quantile * error, v + quantile * error)
            for v, error, ends in zip(
                value_K.tolist(), error_K.tolist(), bounds or [None] * len(value_K), strict=True
            )
        ]


def within(
    value: float, error: float, bounds: tuple[float, float], groups: int, quantile: float
) -> tuple[float, float]:
    """An interval within bounds, of a figure with this standard error: as a share of what is between them, Wilson's (JASA 22,
    1927) for the independent votes that would have this error; for as many votes as groups where it is a bound itself.
    """
    width = bounds[1] - bounds[0]
    share = min(max((value - bounds[0]) / width, 0.0), 1.0)
    spread = share * (1 - share) * width**2
    votes = groups if spread < CLIP else spread / error**2 if error > 0 else math.inf
    low, high = wilson(share, votes, quantile)
    return min(bounds[0] + width * low, value), max(bounds[0] + width * high, value)  # however they round


def minimum_detectable(change: Estimate, confidence: float) -> float | None:
    """The minimum detectable difference: an interval as wide as this one excludes 0 for it with a probability of POWER.

    (z of the confidence + z of POWER) standard errors; None where there is no interval.
    """
    if change.low is None or change.high is None:
        return None
    z = ndtri([(1 + confidence) / 2, POWER])
    return float((change.high - change.low) / 2 * z.sum() / z[0])


def targets(labels: ArrayLike, classes: int = 3) -> Array:
    """Labels as probabilities (n, classes): from class numbers (n,), or soft labels returned as they are.

    Raises ValueError for numbers that are no class, or soft labels that are no probabilities.
    """
    y = np.asarray(labels)
    if y.ndim == 1:
        if not np.isin(y, np.arange(classes)).all():
            raise ValueError(
                f"labels must be 0 to {classes - 1}, got {np.setdiff1d(y, np.arange(classes))[:5]}"
            )
        return np.eye(classes)[y.astype(np.int64)]
    y_NC = y.astype(np.float64)
    if y_NC.shape[1:] != (classes,) or (y_NC < 0).any() or not np.allclose(y_NC.sum(axis=1), 1, atol=1e-4):
        raise ValueError(f"soft labels must be probabilities of shape (n, {classes}), got shape {y.shape}")
    return y_NC


def row_log_loss(p_NC: Array, labels: ArrayLike) -> Array:
    """The log loss -sum_c y_c log max(p_c, CLIP) of each row (n,)."""
    losses: Array = -(targets(labels) * np.log(np.maximum(p_NC, CLIP))).sum(axis=1)
    return losses


def row_accuracy(p_NC: Array, labels: ArrayLike) -> Array:
    """The accuracy of each row (n,): the label's share (0 or 1 if hard) of the most probable class, the first of equals."""
    hits: Array = targets(labels)[np.arange(len(p_NC)), p_NC.argmax(axis=1)]
    return hits


def row_brier(p_NC: Array, labels: ArrayLike) -> Array:
    """The Brier score sum_c (p_c - y_c)^2 of each row (n,), between 0 and 2 (Brier 1950)."""
    scores: Array = ((p_NC - targets(labels)) ** 2).sum(axis=1)
    return scores


def log_loss(p_NC: Array, labels: ArrayLike) -> float:
    """Mean multi-class log loss, in nats."""
    return float(row_log_loss(p_NC, labels).mean())


def accuracy(p_NC: Array, labels: ArrayLike) -> float:
    return float(row_accuracy(p_NC, labels).mean())


def brier(p_NC: Array, labels: ArrayLike) -> float:
    """Mean multi-class Brier score, between 0 and 2."""
    return float(row_brier(p_NC, labels).mean())


def bin_of(confidence_N: Array, bins: int = BINS, equal_mass: bool = True) -> NDArray[np.int64]:
    """The bin (0 to bins - 1) of each confidence: bins of equal counts, or of equal width on [0, 1].

    Equal confidences share a bin, so with many equal ones the counts differ and bins may be empty.
    """
    edges = np.arange(1, bins) / bins
    if equal_mass:
        edges = np.quantile(confidence_N, edges)
    return np.searchsorted(edges, confidence_N, side="left").astype(np.int64)


def ece(p_NC: Array, labels: ArrayLike, bins: int = BINS, equal_mass: bool = True) -> float:
    """Expected calibration error of the most probable class (Guo et al. 2017, arXiv:1706.04599).

    sum over bins of (rows in bin / n) |accuracy - mean confidence|. The absolute value makes it biased
    upwards: a perfectly calibrated prediction scores above 0, see `calibration_test.calibration_error`.
    """
    return float(np.abs(confidence_gaps(p_NC, labels, bins, equal_mass).mean(axis=0)).sum())


def prior_prediction(prior_C: ArrayLike, rows: int) -> Array:
    """The prediction (rows, 3) of the same class shares for every row."""
    return np.tile(np.asarray(prior_C, dtype=np.float64), (rows, 1))


def summarise(
    predictions: Sequence[Array],
    labels: ArrayLike,
    bootstrap: Bootstrap,
    groups_N: NDArray[np.integer] | None = None,
) -> dict[str, Estimate]:
    """Estimates of METRICS, each the mean over the `predictions` (n, 3) of several models on the same rows."""
    scores_N3 = np.mean([_scores(p_NC, labels) for p_NC in predictions], axis=0)
    return dict(zip(METRICS, bootstrap.estimates(scores_N3, groups_N), strict=True))


def difference(
    predictions: Sequence[Array],
    others: Sequence[Array],
    labels: ArrayLike,
    bootstrap: Bootstrap,
    groups_N: NDArray[np.integer] | None = None,
) -> Estimate:
    """The log loss of `predictions` less that of `others`, paired by row; each the mean over its models."""
    gain_N = _mean_loss(predictions, labels) - _mean_loss(others, labels)
    (change,) = bootstrap.estimates(gain_N[:, None], groups_N)
    return change


def _mean_loss(predictions: Sequence[Array], labels: ArrayLike) -> Array:
    losses: Array = np.mean([row_log_loss(p_NC, labels) for p_NC in predictions], axis=0)
    return losses


def _scores(p_NC: Array, labels: ArrayLike) -> Array:
    """The METRICS of each row (n, 3)."""
    return np.column_stack([row_log_loss(p_NC, labels), row_accuracy(p_NC, labels), row_brier(p_NC, labels)])


def confidence_gaps(p_NC: Array, labels: ArrayLike, bins: int = BINS, equal_mass: bool = True) -> Array:
    """Confidence less accuracy (n, bins) of each row in its own bin, 0 elsewhere."""
    confidence_N = p_NC.max(axis=1)
    gap_NB = np.zeros((len(p_NC), bins))
    bin_N = bin_of(confidence_N, bins, equal_mass)
    gap_NB[np.arange(len(p_NC)), bin_N] = confidence_N - row_accuracy(p_NC, labels)
    return gap_NB


def group_sums(values_NM: Array, groups_N: NDArray[np.integer] | None) -> tuple[Array, Array]:
    """The sums (G, M) and sizes (G,) of the groups; without groups each row is its own group."""
    if groups_N is None:
        return values_NM, np.ones(len(values_NM))
    group_N = np.unique(groups_N, return_inverse=True)[1]
    sums = [np.bincount(group_N, weights=column) for column in values_NM.T]
    return np.stack(sums, axis=1), np.bincount(group_N).astype(np.float64)
