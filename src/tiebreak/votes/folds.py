"""Assignment of groups of votes to folds, the lockbox or the calibration split.

An assignment is a hash of the group and the seed, nothing else, so rows that are added later move no row that
is already there. Exact stratification would move them, because balancing the labels depends on every vote.
So folds are balanced in size and labels as a random draw is: sizes vary by about sqrt(k / n) for k folds of
n groups (0.9 % at 57,000 groups and five folds). `imbalance` measures it.

Folds are drawn by rendezvous hashing (Thaler and Ravishankar 1998): a group goes to the fold with the highest
hash. So going from k to k + 1 folds moves only the groups of the new fold, and the lockbox stays as it is.
"""

from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from tiebreak.votes.schema import CALIBRATION, LOCKBOX


def fold_of(group: str, count: int, lockbox_share: float, seed: int, calibration_share: float = 0.0) -> int:
    """The fold of a group: LOCKBOX, CALIBRATION, or 0..count-1, for at most 20 folds."""
    digest = blake2b(f"{seed}/{group}".encode(), digest_size=64).digest()
    position = int.from_bytes(digest[:4], "big") / 2**32
    if position < lockbox_share + calibration_share:
        return LOCKBOX if position < lockbox_share else CALIBRATION
    return max(range(count), key=lambda fold: digest[4 + 3 * fold : 7 + 3 * fold])


def imbalance(p_FC: NDArray[np.floating]) -> tuple[float, float]:
    """Imbalance of folds as (size, label), from the sum of the label probabilities in each, shape (folds, 3).

    size: the largest relative deviation of a fold's votes from the mean. label: the largest difference
    between the share of a label in a fold and in all of them.
    """
    votes_F = p_FC.sum(axis=1)
    share_FC = p_FC / votes_F[:, None]
    size = np.abs(votes_F / votes_F.mean() - 1).max()
    label = np.abs(share_FC - p_FC.sum(axis=0) / votes_F.sum()).max()
    return float(size), float(label)
