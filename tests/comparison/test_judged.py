"""Votes find their comparisons by texts, whichever side and however often."""

from typing import Any

import numpy as np
import pytest

from tiebreak.comparison.judged import Judged, judged
from tiebreak.votes.formats.model_outputs import comparisons, read_given
from tiebreak.votes.formats.model_votes import read_model_votes

A, B, TIE = np.eye(3)


@pytest.fixture
def made() -> Judged:
    rows = [
        {"prompt": f"Q{q}?", "output": text, "model": model}
        for q in range(2)
        for model, text in (("ada", f"one {q}"), ("bob", f"# two\n- {q}"), ("cyd", f"one {q}"))
    ]
    outputs = read_given(rows)
    chosen = comparisons(outputs)
    return judged(chosen, np.full((len(chosen), 3), 1 / 3), outputs.models)


def votes(*rows: tuple[Any, ...]) -> Any:
    names = ("prompt", "response_a", "response_b", "winner", "model_a", "model_b")
    return read_model_votes([dict(zip(names, row, strict=False)) for row in rows])[0]


def test_a_vote_is_found_either_way_round(made: Judged) -> None:
    found = made.votes(
        votes(
            ("Q0?", "one 0", "# two\n- 0", "a", "ada", "bob"),
            ("Q0?", "# two\n- 0", "one 0", "a", "bob", "ada"),
            ("Q1?", "# two\n- 1", "one 1", "tie", "bob", "cyd"),
            ("Q1?", "# two\n- 1", "one 1", "b", "bob", "cyd"),
            ("Q1?", "another", "one 1", "b", "bob", "cyd"),
        )
    )
    pairs = [(made.models[a], made.models[b]) for a, b in made.sides.tolist()]
    prompts = made.prompts
    assert found.unmatched == 1
    assert found.count_N.tolist() == [2 * (pair in (("ada", "bob"), ("bob", "cyd")) and q == (pair[0] == "bob")) for pair, q in zip(pairs, prompts, strict=True)]  # fmt: skip
    assert found.y_NC[pairs.index(("ada", "bob"))] == pytest.approx((A + B) / 2)
    place = next(n for n, pair in enumerate(pairs) if pair == ("bob", "cyd") and prompts[n] == 1)
    assert found.y_NC[place] == pytest.approx((B + TIE) / 2)


def test_equal_answers_are_told_apart_by_their_models(made: Judged) -> None:
    found = made.votes(votes(("Q0?", "one 0", "one 0", "a", "cyd", "ada")))
    pairs = [(made.models[a], made.models[b]) for a, b in made.sides.tolist()]
    assert found.y_NC[pairs.index(("ada", "cyd"))] == pytest.approx(B)
    without = made.votes(votes(("Q0?", "one 0", "# two\n- 0", "a")))
    assert without.y_NC[pairs.index(("ada", "bob"))] == pytest.approx(A)


def test_style_and_slices(made: Judged) -> None:
    assert made.styles[1][0].tolist() == [len("# two\n- 0"), 1, 1, 0]
    assert made.slices("language") == ["Latin"] * 6
    assert made.slices("by") == [None] * 6
