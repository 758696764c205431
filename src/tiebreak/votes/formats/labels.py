"""Conversion of labels to three probabilities: hard labels, soft labels, or the scores of two answers."""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from decimal import Decimal
from functools import lru_cache
from typing import Any

from tiebreak.votes.formats.dialog import RowError

Probabilities = tuple[float, float, float]

A: Probabilities = (1.0, 0.0, 0.0)
B: Probabilities = (0.0, 1.0, 0.0)
TIE: Probabilities = (0.0, 0.0, 1.0)
LABELS: dict[str, Probabilities] = {"a": A, "b": B, "tie": TIE}

SUM_TOLERANCE = 0.01 + 1e-9
"""The largest distance of a sum of three probabilities from one, .33 .33 .33 included; within it they are normalised."""

_HARD: dict[str, Probabilities] = {
    **dict.fromkeys(("a", "model_a", "response_a", "answer_a", "output_a", "completion_a", "a>b", "a>>b"), A),
    **dict.fromkeys(("b", "model_b", "response_b", "answer_b", "output_b", "completion_b", "b>a", "b>>a"), B),
    **dict.fromkeys(("tie", "both_bad", "bothbad", "tie_(bothbad)", "tie_(both_bad)"), TIE),
    "tie_(inconsistent)": TIE,  # of MT-bench's gpt4_pair, whose two orders disagree; FastChat counts it as a tie
    **dict.fromkeys(("c", "a=b", "b=a"), TIE),  # C is a tie where A and B are the answers, as in MT-bench
}
_OF_PREFERENCES: dict[str, Probabilities] = {
    **{key: label for key, label in _HARD.items() if label == TIE},
    **{"chosen": A, "rejected": B},
}
"""The winners beside a chosen and a rejected answer."""
_SOFT = (("winner_model_a", "winner_model_b", "winner_tie"), ("p_a", "p_b", "p_tie"))
_LONGEST_NAMED = 20
"""Characters of an unknown winner that is counted by itself; longer ones are counted together."""


def fold(text: str) -> str:
    """The text without differences of case, and with one underscore for each run of spaces, hyphens and underscores."""
    return re.sub(r"[\s_-]+", "_", text.strip().casefold())


@lru_cache(typed=True)  # a file has few values, once a row; True is not 1
def value_key(value: Any) -> str:
    """The text by which a label's value is known, however a file writes it: 1, 1.0 and "1" are one, as are " A > B" and
    "a>b".
    """
    if isinstance(value, bool):
        return str(value).casefold()
    text = str(value)
    try:
        return f"{float(text):g}"
    except (ValueError, OverflowError):
        return re.sub("_?([<>=]+)_?", r"\1", fold(text.strip().strip("[]")))


class OtherScale(ValueError):
    """A number outside of the scale that a file's columns tell of: its other numbers may mean something else too."""


Scale = Callable[[float], Probabilities]
"""The meaning of numbers. Raises OtherScale for one outside."""


@dataclass(frozen=True)
class Winners:
    """The meaning of the values in a file's column of winners.

    values: labels by `value_key`, which come before the common ones. scale: that of numbers.
    """

    values: Mapping[str, Probabilities] = field(default_factory=dict)
    scale: Scale | None = None

    def label(self, value: Any) -> Probabilities:
        """The label of a value. Raises RowError for one that is not known, of a kind of its own if it is short, and
        OtherScale.
        """
        key = _key(value)
        if found := self.values.get(key) or _HARD.get(key):
            return found
        if self.scale is not None and not isinstance(value, bool):
            with suppress(RowError):
                return self.scale(number(value, "winner"))
        raise _unknown(value, "a, b, tie")

    def of_preference(
        self, value: Any, chosen_model: str | None, rejected_model: str | None
    ) -> Probabilities | None:
        """The label of a winner beside a chosen and a rejected answer, which stand for a and b where values are given a label.

        None for one that says which of two sides won, since a row does not say which side was chosen. Raises RowError for
        one that is not known.
        """
        if value in (None, ""):
            return None
        key = _key(value)
        own = {value_key(name): label for name, label in ((chosen_model, A), (rejected_model, B)) if name}
        said = self.values.get(key) or own.get(key) or _OF_PREFERENCES.get(key)
        if said is None and key not in _HARD:
            raise _unknown(value, "chosen, rejected, tie")
        return said


def _key(value: Any) -> str:
    """The value's key. Raises RowError for what is no text or number."""
    if not isinstance(value, str | int | float | Decimal):
        raise RowError("unknown winner; valid: a, b, tie", type(value).__name__)
    return value_key(value)


def _unknown(value: Any, valid: str) -> RowError:
    """The error for a winner, of a kind of its own if it is short: with many values there would be as many kinds as rows."""
    key = value_key(value)
    if len(key) > _LONGEST_NAMED or "." in key:
        return RowError(f"unknown winner; valid: {valid}", f"{value!r:.40}")
    return RowError(
        f"unknown winner: {value!r}; valid: {valid} (or --values '{key}=?' with a, b or tie for ?)"
    )


def is_labelled(columns: set[str]) -> bool:
    """True if the columns can hold a label."""
    return "winner" in columns or any(columns.issuperset(names) for names in _SOFT)


def label(record: Mapping[str, Any]) -> Probabilities:
    """The three probabilities of a vote, from `winner` (text, or probabilities as a tuple), winner_model_a/b/tie or
    p_a/p_b/p_tie.

    Raises RowError if there is none, it is no distribution, or two of them contradict.
    """
    labels = []
    for names in _SOFT:
        values = [record.get(name) for name in names]
        if None not in values and "" not in values:
            labels.append(_distribution(values, names))
    if (winner := record.get("winner")) not in (None, ""):
        labels.append(winner if isinstance(winner, tuple) else Winners().label(winner))
    if not labels:
        raise RowError("no label")
    if any(math.dist(labels[0], other) > SUM_TOLERANCE for other in labels[1:]):
        raise RowError("labels contradict", str(labels))
    return labels[0]


def tie_or_not(value: Any) -> Probabilities | None:
    """The label of `is_tie` beside a chosen answer: a tie, or that it won; None for an empty cell. Raises RowError."""
    if value in (None, ""):
        return None
    match value_key(value) if isinstance(value, str | int | float) else None:
        case "true" | "yes" | "1":
            return TIE
        case "false" | "no" | "0":
            return A
    raise RowError("is_tie is neither true nor false", f"{value!r:.40}")


def from_one_to_two(value: float) -> Probabilities:
    """The label of alpaca_eval's preference: 1 for the first answer, 2 for the second, 1.5 for a draw; between them P(second) + 1."""
    if not 1 <= value <= 2:
        raise OtherScale(f"preference is {value:g}, not from 1 to 2 as in alpaca_eval")
    return TIE if value == 1.5 else (2 - value, value - 1, 0.0)


def below_zero_first(value: float) -> Probabilities:
    """The label of HelpSteer's preference: -3 to -1 for the first answer, 1 to 3 for the second, 0 for a tie."""
    if not -3 <= value <= 3:
        raise OtherScale(f"overall_preference is {value:g}, not from -3 to 3 as in HelpSteer3")
    return label_of_scores(-value, value)


def none_first_second(value: float) -> Probabilities:
    """The label of PandaLM's annotators: 0 for a tie, 1 for the first answer, 2 for the second."""
    if value not in (0, 1, 2):
        raise OtherScale(f"an annotator says {value:g}, not 0, 1 or 2 as in PandaLM")
    return (TIE, A, B)[int(value)]


def _distribution(values: Sequence[Any], names: Sequence[str]) -> Probabilities:
    a, b, tie = map(number, values, names)
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
