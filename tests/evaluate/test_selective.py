"""The lockbox table of decisions, by hand; and what the report and the card show of it."""

import numpy as np
import pytest

from tiebreak.evaluate.selective import MAX_ERRORS, decided_shares
from tiebreak.evaluate.variants import LabelledVotes
from tiebreak.stats.guarantees import Guarantees


def test_shares_and_errors_are_those_by_hand() -> None:
    random = np.random.default_rng(0)
    p_NC = random.dirichlet([1, 1, 1], size=900)
    y_NC = np.eye(3)[[random.choice(3, p=p_C) for p_C in p_NC]]
    counts = Guarantees.fit(p_NC[:600], y_NC[:600], np.arange(600))
    lockbox = LabelledVotes([str(n) for n in range(300)], y_NC[600:], np.arange(300))
    rows = list(decided_shares(counts, p_NC[600:], lockbox))
    assert [row["max_error"] for row in rows] == list(MAX_ERRORS)
    shown = [row for row in rows if row["certain_from"] is not None]
    assert len(shown) >= 3
    assert [row["decided"] for row in shown] == sorted(row["decided"] for row in shown)
    for row in shown:
        decided = p_NC[600:].max(axis=1) >= row["certain_from"]
        assert row["certain_from"] == counts.certain_from(row["max_error"])
        assert row["decided"] == pytest.approx(decided.mean())
        wrong = p_NC[600:][decided].argmax(axis=1) != y_NC[600:][decided].argmax(axis=1)
        assert row["error"] == pytest.approx(wrong.mean())
        assert row["low"] < row["error"] < row["high"]


def test_a_bound_that_is_not_shown_has_no_figures() -> None:
    counts = Guarantees.fit(np.tile([0.5, 0.3, 0.2], (20, 1)), np.eye(3)[[0, 1] * 10], np.arange(20))
    lockbox = LabelledVotes(["x"], np.eye(3)[:1], np.arange(1))
    first = next(iter(decided_shares(counts, np.array([[0.5, 0.3, 0.2]]), lockbox)))
    assert first == {"max_error": 0.1, "certain_from": None}
