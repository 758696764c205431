"""Skill score of a model between the class prior and the true probabilities, where these are known.

All three are scored on the same labels. The true probabilities' log loss varies about its entropy, and the model's
varies with it, so a ratio of paired differences has less variance than one with the entropy.

Dimension letters: N votes, C classes, S resamples.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tiebreak.stats.metrics import Array, Bootstrap, Estimate, row_log_loss


@dataclass(frozen=True)
class SkillScore:
    """Skill score. truth: the true probabilities' log loss. share: (prior - model) / (prior - truth), of log losses."""

    truth: Estimate
    share: Estimate


def skill_score(
    p_NC: Array,
    prior_NC: Array,
    true_NC: Array,
    labels: ArrayLike,
    bootstrap: Bootstrap,
    groups_N: NDArray[np.integer] | None = None,
) -> SkillScore:
    """Skill score of predictions (n, 3) between the prior's and the true ones, all resampled together."""
    columns_N3 = np.stack([row_log_loss(x_NC, labels) for x_NC in (prior_NC, p_NC, true_NC)], axis=1)
    truth, share = bootstrap.estimates(columns_N3, groups_N, _truth_and_share)
    return SkillScore(truth, share)


def _truth_and_share(means_S3: Array) -> Array:
    prior_S, model_S, truth_S = means_S3.T
    return np.stack([truth_S, (prior_S - model_S) / (prior_S - truth_S)], axis=1)
