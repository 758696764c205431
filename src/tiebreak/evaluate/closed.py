"""How much of the way from the class prior to the truth a model has gone, where the truth is known.

All three are scored on the same labels. The truth's own log loss on them scatters about its entropy, and the
model's scatters with it, so a share of paired differences is steadier than one with the entropy in it.

Dimension letters: N votes, C classes, S resamples.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tiebreak.evaluate.metrics import Array, Bootstrap, Estimate, row_log_loss


@dataclass(frozen=True)
class Closed:
    """truth: the true probabilities' log loss. share: (prior - model) / (prior - truth), of log losses."""

    truth: Estimate
    share: Estimate


def closed(
    p_NC: Array,
    prior_NC: Array,
    true_NC: Array,
    labels: ArrayLike,
    bootstrap: Bootstrap,
    groups_N: NDArray[np.integer] | None = None,
) -> Closed:
    """Measure predictions (n, 3) between the prior's and the truth's, all resampled together."""
    columns_N3 = np.stack([row_log_loss(x_NC, labels) for x_NC in (prior_NC, p_NC, true_NC)], axis=1)
    truth, share = bootstrap.estimates(columns_N3, groups_N, _truth_and_share)
    return Closed(truth, share)


def _truth_and_share(means_S3: Array) -> Array:
    prior_S, model_S, truth_S = means_S3.T
    return np.stack([truth_S, (prior_S - model_S) / (prior_S - truth_S)], axis=1)
