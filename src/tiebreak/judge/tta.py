"""Swap test-time augmentation: the order shown first, the certainty that makes one order enough, the mean over both.

Everything is symmetric in the answers, so that swapping them swaps the probabilities to the last bit.

Dimension letters: N votes, O orders, C classes (a, b, tie).
"""

from hashlib import blake2b

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tiebreak.judge.logits import mean_over_orders, softmax
from tiebreak.recipe.schema import Tta

Array = NDArray[np.float64]


def tta_probabilities(votes: pa.Table, z_NOC: Array, tta: Tta, certain_from: float | None) -> Array:
    """Probabilities (n, 3) of the stored order, of both, or of both only where one is not certain."""
    if not tta.both_orders or z_NOC.shape[1] == 1:
        return softmax(z_NOC[:, 0])
    p_NC = mean_over_orders(z_NOC)
    if certain_from is None:
        return p_NC
    first_N, differ_N = first_order(votes)
    first_NC = softmax(z_NOC[np.arange(len(z_NOC)), first_N])
    return np.where(is_certain(first_NC, differ_N, certain_from)[:, None], first_NC, p_NC)


def is_certain(p_NC: Array, differ_N: NDArray[np.bool_], certain_from: float) -> NDArray[np.bool_]:
    """True for votes (n,) where one order is enough: the likeliest class is likely, and the answers differ."""
    certain: NDArray[np.bool_] = differ_N & (p_NC.max(axis=1) >= certain_from)
    return certain


def certainty_threshold(votes: pa.Table, z_NOC: Array, share: float) -> float | None:
    """The probability below which `share` of these votes are in the order first shown; None for 1."""
    if share == 1:
        return None
    first_N, _ = first_order(votes)
    first_NC = softmax(z_NOC[np.arange(len(z_NOC)), first_N])
    return float(np.quantile(first_NC.max(axis=1), share))


def first_order(votes: pa.Table) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """The order in which each vote is shown first, 0 as stored, 1 swapped; and a mask of votes whose answers differ.

    The order follows hashes of the answers, not which of them is called A, so a swapped vote is shown the same way.
    Equal answers have no such order: they take both.
    """
    a, b = ([_hash(turns) for turns in votes[name].to_pylist()] for name in ("response_a", "response_b"))
    pairs = list(zip(a, b, strict=True))
    return np.array([x > y for x, y in pairs], np.int64), np.array([x != y for x, y in pairs], np.bool_)


def _hash(turns: list[str | None]) -> bytes:
    text = "\0".join(turn or "" for turn in turns)
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
