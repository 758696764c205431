"""Rules for degenerate votes: an answer missing, both missing, both identical.

The label shares of such votes are learned from training votes, not assumed. Each rule's prediction is the
posterior mean of a Dirichlet whose prior is the model's own prediction, worth `strength` votes: a kind that
is absent from training leaves the model's prediction as it is.
"""

from typing import Any, Self

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray

from tiebreak.stats.estimator import Estimator
from tiebreak.stats.metrics import Array, targets
from tiebreak.votes.schema import swap_answers

KINDS = ("ordinary", "a missing", "b missing", "both missing", "identical")
"""A vote's kind is its index here."""

_MIRRORED = (0, 2, 1, 3, 4)


def kinds(votes: pa.Table) -> NDArray[np.int64]:
    """The kind (n,) of each vote (votes.schema.SCHEMA). Missing: every turn is null or blank."""
    texts = [[_text(turns) for turns in votes[name].to_pylist()] for name in ("response_a", "response_b")]
    return np.array([_kind(a, b) for a, b in zip(*texts, strict=True)], dtype=np.int64)


class Rules(Estimator):
    """Dirichlet posterior means by kind. Fitted: counts_ (kinds, 3), label counts; mirrored kinds share theirs."""

    def __init__(self, strength: float = 10.0) -> None:
        self.strength = strength

    def fit(self, votes: pa.Table, labels: ArrayLike) -> Self:
        """Count training votes; labels are class numbers (n,) or soft (n, 3)."""
        kind_N, y_NC = kinds(votes), targets(labels)
        counts_KC = np.stack([y_NC[kind_N == k].sum(axis=0) for k in range(len(KINDS))])
        # the mirror image of a vote counts too, which makes the rules symmetric; half where it is of one kind
        mirror_KC = swap_answers(counts_KC[list(_MIRRORED)])
        self.counts_ = (counts_KC + mirror_KC) / np.where(np.arange(5) == _MIRRORED, 2, 1)[:, None]
        self.counts_[0] = 0.0
        return self

    def applies(self, votes: pa.Table) -> NDArray[np.bool_]:
        """A mask (n,) of the votes whose kind was among the training votes, but for ordinary ones."""
        known: NDArray[np.bool_] = self.counts_.any(axis=1)[kinds(votes)]
        return known

    def apply(self, votes: pa.Table, p_NC: Array) -> Array:
        """Replace the probabilities (n, 3) of all but ordinary votes."""
        counts_NC = self.counts_[kinds(votes)]
        total_N1 = (counts_NC[:, 0] + counts_NC[:, 1] + counts_NC[:, 2] + self.strength)[:, None]
        replaced: Array = np.where(
            counts_NC.any(axis=1)[:, None], (counts_NC + self.strength * p_NC) / total_N1, p_NC
        )
        return replaced

    def to_json(self) -> dict[str, Any]:
        return {
            "strength": self.strength,
            "counts": dict(zip(KINDS[1:], self.counts_[1:].tolist(), strict=True)),
        }

    @classmethod
    def from_json(cls, state: dict[str, Any]) -> Self:
        rules = cls(state["strength"])
        rules.counts_ = np.array([[0.0, 0.0, 0.0], *(state["counts"][kind] for kind in KINDS[1:])])
        return rules


def _text(turns: list[str | None]) -> str:
    return "\n".join(turn.strip() for turn in turns if turn and turn.strip())


def _kind(a: str, b: str) -> int:
    if a and b:
        return 4 if a == b else 0
    return 1 if b else 2 if a else 3
