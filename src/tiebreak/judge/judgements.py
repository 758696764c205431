"""Judgements: a judge's probabilities for pairs, and what led to them.

Dimension letters: N pairs, O orders, C classes (a, b, tie).
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

DecidedBy = Literal["model", "blend", "rule"]
"""What has the last word: the model, the model and its baseline, or the rules for missing and equal answers."""


@dataclass(frozen=True)
class Judgements:
    """The judgements of N pairs.

    p_NC: calibrated probabilities. p_NOC: the model's own in both orders, the swap undone, 0 in an order that was not
    shown. given_N3, kept_N3: the tokens of prompt, answer A and answer B, and how many of them the model is shown.
    frame_tokens: of a row, beside those.
    """

    p_NC: NDArray[np.float64]
    p_NOC: NDArray[np.float64]
    decided_by: list[DecidedBy]
    given_N3: NDArray[np.int64]
    kept_N3: NDArray[np.int64]
    frame_tokens: int

    def __len__(self) -> int:
        return len(self.decided_by)

    def __getitem__(self, which: slice) -> "Judgements":
        return Judgements(
            self.p_NC[which],
            self.p_NOC[which],
            self.decided_by[which],
            self.given_N3[which],
            self.kept_N3[which],
            self.frame_tokens,
        )

    @property
    def truncated(self) -> NDArray[np.bool_]:
        """A mask (n,) of the pairs of which not all is shown."""
        cut: NDArray[np.bool_] = np.any(self.kept_N3 < self.given_N3, axis=1)
        return cut

    @property
    def tokens(self) -> int:
        """Tokens that the model has read, in all orders shown."""
        rows_N = self.kept_N3.sum(axis=1) + self.frame_tokens
        return int((shown(self.p_NOC).sum(axis=1) * rows_N).sum())


def shown(p_NOC: NDArray[np.float64]) -> NDArray[np.bool_]:
    """A mask (n, orders) of the orders that were shown."""
    mask: NDArray[np.bool_] = (p_NOC != 0).any(axis=2)
    return mask
