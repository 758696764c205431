"""What all plug-ins do: load a judge once, and count a tie as half a win."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

import tiebreak
from tiebreak.judge.judge import Judge


@lru_cache(maxsize=1)
def load(model: str) -> Judge:
    """The judge of a model folder; the last one is kept. Raises TiebreakError as `tiebreak.load` does."""
    return tiebreak.load(model)


def win_rates(p_NC: NDArray[np.float64]) -> NDArray[np.float64]:
    """Win rates (n,) of answer A from probabilities (n, 3) of a, b and tie."""
    return p_NC[:, 0] + p_NC[:, 2] / 2
