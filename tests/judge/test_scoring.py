"""Scoring with a simulated card whose memory is too small for the budget."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from tiny_models import base, votes

from tiebreak.errors import TiebreakError
from tiebreak.judge import scoring
from tiebreak.model import classifier
from tiebreak.recipe.schema import Prompt
from tiebreak.tokens.packing import Packed
from tiebreak.tokens.prompt import tokenize

VOTES, BUDGET = 20, 1600


def scored(
    fits: Callable[[int, int], bool], budget: int = BUDGET
) -> tuple[np.ndarray, list[Packed], list[int]]:
    """Logits, forwards that fitted and rows reported; fits: does the nth forward, of so many tokens?"""
    ours = classifier.load(base("qwen2"))
    ours.head_trained = True
    exact, tried, forwards, reported = ours.logits, [0], [], []

    def logits(packed: Packed) -> torch.Tensor:
        tried[0] += 1
        if not fits(tried[0], len(packed.ids_T)):
            raise torch.cuda.OutOfMemoryError("out of memory")
        forwards.append(packed)
        return exact(packed)

    ours.logits = logits
    tokens, rows = tokenize(votes(VOTES), ours.tokenizer, Prompt()), scoring.both_orders(np.arange(VOTES))
    z_RC = scoring.score(ours, tokens, rows, 150, budget, lambda _, done, *rest: reported.append(done))
    return z_RC, forwards, reported


def test_half_the_budget_is_taken_where_it_does_not_fit() -> None:
    expected, whole, _ = scored(lambda number, tokens: True)
    assert max(len(packed.ids_T) for packed in whole) > BUDGET / 2
    z_RC, forwards, _ = scored(lambda number, tokens: tokens <= BUDGET / 4)
    np.testing.assert_allclose(z_RC, expected, atol=1e-5)
    assert sum(len(packed.spans) for packed in forwards) == 2 * VOTES


def test_rows_that_were_scored_are_not_scored_again() -> None:
    expected, _, _ = scored(lambda number, tokens: True)
    z_RC, forwards, reported = scored(lambda number, tokens: number != 2)
    np.testing.assert_allclose(z_RC, expected, atol=1e-5)
    assert sum(len(packed.spans) for packed in forwards) == 2 * VOTES
    assert reported == np.cumsum([len(packed.spans) for packed in forwards]).tolist()


def test_a_row_that_does_not_fit_alone_is_an_error() -> None:
    with pytest.raises(TiebreakError, match=r"one row, of \d+ tokens, .* lower max_tokens"):
        scored(lambda number, tokens: False)


def test_both_orders_of_the_same_answers_are_one_row() -> None:
    ours = classifier.load(base("qwen2"))
    ours.head_trained = True
    table = votes(VOTES)
    table = table.set_column(table.schema.get_field_index("response_b"), "response_b", table["response_a"])
    tokens, rows_R2 = tokenize(table, ours.tokenizer, Prompt()), scoring.both_orders(np.arange(VOTES))
    counts: list[int] = []
    exact = ours.logits

    def logits(packed: Packed) -> torch.Tensor:
        counts.append(len(packed.spans))
        return exact(packed)

    ours.logits = logits
    z_RC = scoring.score(ours, tokens, rows_R2[::-1].copy(), 150, BUDGET, lambda *_: None)
    assert sum(counts) == VOTES
    np.testing.assert_array_equal(z_RC[::2], z_RC[1::2])
    assert len(np.unique(z_RC[::2], axis=0)) == VOTES


def test_several_processes_do_not_change_their_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scoring.distributed, "world_size", lambda: 2)
    monkeypatch.setattr(scoring.distributed, "all_equal", lambda value: True)
    with pytest.raises(TiebreakError, match=r"a forward of 1600 tokens .* compute\.score_tokens=800"):
        scored(lambda number, tokens: False)
