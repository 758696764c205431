"""The orders a vote's answers are shown in: which comes first, whether one is enough, what is said over both.

All of it treats the answers alike, so that swapping them swaps the probabilities to the last bit.

Dimension letters: N votes, O orders, C classes (a, b, tie).
"""

from hashlib import blake2b

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tiebreak.data.logits import mean_over_orders, softmax
from tiebreak.recipe import Tta

Array = NDArray[np.float64]


def over_orders(votes: pa.Table, z_NOC: Array, tta: Tta, certain_from: float | None) -> Array:
    """What the model says (n, 3): in the stored order, in both, or in both where it is not certain in one."""
    if not tta.both_orders or z_NOC.shape[1] == 1:
        return softmax(z_NOC[:, 0])
    p_NC = mean_over_orders(z_NOC)
    if certain_from is None:
        return p_NC
    first_N, differ_N = first_shown(votes)
    first_NC = softmax(z_NOC[np.arange(len(z_NOC)), first_N])
    return np.where(is_certain(first_NC, differ_N, certain_from)[:, None], first_NC, p_NC)


def is_certain(p_NC: Array, differ_N: NDArray[np.bool_], certain_from: float) -> NDArray[np.bool_]:
    """For which votes one order is enough (n,): the likeliest class is likely, and the answers differ."""
    certain: NDArray[np.bool_] = differ_N & (p_NC.max(axis=1) >= certain_from)
    return certain


def certainty(votes: pa.Table, z_NOC: Array, share: float) -> float | None:
    """The probability that leaves `share` of these votes less certain in the order first shown; None for 1."""
    if share == 1:
        return None
    first_N, _ = first_shown(votes)
    first_NC = softmax(z_NOC[np.arange(len(z_NOC)), first_N])
    return float(np.quantile(first_NC.max(axis=1), share))


def first_shown(votes: pa.Table) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """The order that each vote is shown in first, 0 as stored, 1 swapped; and whether its answers differ.

    The order follows hashes of the answers and not which of them is called A, so a swapped vote is shown the
    same. Equal answers leave nothing to follow: they take both orders.
    """
    a, b = ([_hash(turns) for turns in votes[name].to_pylist()] for name in ("response_a", "response_b"))
    pairs = list(zip(a, b, strict=True))
    return np.array([x > y for x, y in pairs], np.int64), np.array([x != y for x, y in pairs], np.bool_)


def _hash(turns: list[str | None]) -> bytes:
    text = "\0".join(turn or "" for turn in turns)
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
