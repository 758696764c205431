"""Sample size of votes: warnings of few votes, and of labels that are all the same."""

from collections.abc import Iterable, Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from tiebreak.votes.schema import LABELS

FEW = 200
"""Fewer votes than these are warned of."""

_ALL_TIES = (
    "all {votes:,} votes are ties: nothing says which answers people prefer, so there is nothing to learn. Look at what "
    "says the winner in the file"
)
_ALL_ONE_SIDE = (
    "all {votes:,} votes prefer {side}: the class shares foresee every one of them, so that no judge can be found better. "
    "If the preferred answer always comes first or last, exchange the answers, and the label, of every other vote"
)


def label_sums(parts: Iterable[NDArray[np.floating]]) -> dict[str, float]:
    """The votes of each label, where a soft label counts in parts, from probabilities (n, 3); NaN is no vote."""
    total_C = np.zeros(len(LABELS))
    for p_NC in parts:
        total_C += np.nansum(p_NC, axis=0, dtype=np.float64)
    return dict(zip(LABELS, total_C.tolist(), strict=True))


def are_ties(labels: Mapping[str, float]) -> bool:
    """True if there are votes and all are ties."""
    return _only_label(labels) == "tie"


def notices(labels: Mapping[str, float]) -> Iterator[str]:
    """Warnings about votes by the sums of their labels: one label only, or few votes. Of ties alone, that and no more."""
    votes, only = round(sum(labels.values())), _only_label(labels)
    if only == "tie":
        yield _ALL_TIES.format(votes=votes)
        return
    if only:
        yield _ALL_ONE_SIDE.format(votes=votes, side=only.upper())
    if 0 < votes < FEW:
        yield (
            f"{votes} votes are few to learn from: the baseline was 0.01 of log loss ahead of the class shares after 30 real "
            f"votes, 0.08 after {FEW}"
        )


def _only_label(labels: Mapping[str, float]) -> str | None:
    """The label of all votes, if they have one in common."""
    found = [label for label, count in labels.items() if count > 0]
    return found[0] if len(found) == 1 else None
