"""Conversion of labels to three probabilities: hard labels, soft labels, or the scores of two answers."""

import math
from collections.abc import Mapping
from typing import Any

from tiebreak.votes.formats.dialog import RowError

Probabilities = tuple[float, float, float]

SUM_TOLERANCE = 0.01 + 1e-9
"""The largest distance of a sum of three probabilities from one, .33 .33 .33 included; within it they are normalised."""

_HARD: dict[str, Probabilities] = {
    **dict.fromkeys(("model_a", "a"), (1.0, 0.0, 0.0)),
    **dict.fromkeys(("model_b", "b"), (0.0, 1.0, 0.0)),
    **dict.fromkeys(("tie", "both_bad", "bothbad", "tie (bothbad)", "tie (both bad)"), (0.0, 0.0, 1.0)),
}
_SOFT = (("winner_model_a", "winner_model_b", "winner_tie"), ("p_a", "p_b", "p_tie"))


def is_labelled(columns: set[str]) -> bool:
    """True if the columns can hold a label."""
    return "winner" in columns or any(columns.issuperset(names) for names in _SOFT)


def label(record: Mapping[str, Any]) -> Probabilities:
    """The three probabilities of a vote, from `winner`, winner_model_a/b/tie or p_a/p_b/p_tie.

    Raises RowError if there is none, it is no distribution, or two of them contradict.
    """
    labels = [
        _distribution(record, names) for names in _SOFT if all(record.get(n) not in (None, "") for n in names)
    ]
    if (winner := record.get("winner")) not in (None, ""):
        if not isinstance(winner, str) or winner.strip().lower() not in _HARD:
            raise RowError("unknown winner", f"{winner!r:.40}; valid: model_a, model_b, tie, both_bad")
        labels.append(_HARD[winner.strip().lower()])
    if not labels:
        raise RowError("no label")
    if any(math.dist(labels[0], other) > SUM_TOLERANCE for other in labels[1:]):
        raise RowError("labels contradict", str(labels))
    return labels[0]


def _distribution(record: Mapping[str, Any], names: tuple[str, str, str]) -> Probabilities:
    a, b, tie = (number(record[name], name) for name in names)
    total = a + b + tie
    if min(a, b, tie) < 0 or abs(total - 1) > SUM_TOLERANCE:
        raise RowError("label is no distribution", f"{a:g}, {b:g}, {tie:g} sum to {total:g}, not to 1")
    return a / total, b / total, tie / total


def label_of_scores(first: float, second: float) -> Probabilities:
    """The label of two scores: the higher score wins, equal scores are a tie."""
    return float(first > second), float(first < second), float(first == second)


def number(value: Any, what: str) -> float:
    """The value as a finite number. Raises RowError."""
    try:
        result = float(value)
    except (TypeError, ValueError, OverflowError):
        raise RowError(f"{what} is not a number", f"{value!r:.40}") from None
    if not math.isfinite(result):
        raise RowError(f"{what} is not a number", str(result))
    return result
