"""Acquisition: which unvoted pairs to vote on next, by how much several predictions of each disagree.

The disagreement of a pair is the mutual information between its vote and which of the predictions is right: the entropy of
their mean less the mean of their entropies (BALD: Houlsby et al. 2011, arXiv:1112.5745; of a committee: McCallum and Nigam,
ICML 1998). What all of them call even is not in it: a vote on such a pair is a coin toss, which teaches little, although its
entropy, the usual uncertainty (Settles, Active Learning Literature Survey, 2009), is highest.

The pairs of most disagreement are of a kind, and a model that learns from them alone meets other pairs badly. So pairs are
drawn, each with a probability in proportion to its disagreement, without replacement: in the order of the logarithm with
Gumbel noise (Kirsch et al. 2023, arXiv:2106.12059). benchmarks/active.py measures this beside other rules.

Dimension letters: N pairs, M predictions of each, C classes (a, b, tie).
"""

import numpy as np
from scipy.special import entr

from tiebreak.stats.metrics import Array

_LEAST = 1e-12
"""Of a disagreement, so that pairs without any are drawn too, last."""


def entropy(p_NC: Array) -> Array:
    """The entropy (n,) of probabilities, in nats, over the last axis."""
    entropy_N: Array = entr(p_NC).sum(axis=-1)
    return entropy_N


def disagreement(p_NMC: Array) -> Array:
    """The disagreement (n,) of predictions (n, members, 3), in nats: from 0 to the logarithm of the number of members."""
    between_N: Array = entropy(p_NMC.mean(axis=1)) - entropy(p_NMC).mean(axis=1)
    return np.maximum(between_N, 0.0)


def priority(disagreement_N: Array, random: np.random.Generator) -> Array:
    """Numbers (n,), the highest of which are a draw without replacement in proportion to the disagreement."""
    noise_N: Array = random.gumbel(size=len(disagreement_N))
    return np.log(np.maximum(disagreement_N, _LEAST)) + noise_N
