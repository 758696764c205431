"""Swap TTA: the order shown first, and the certainty that makes it enough."""

import numpy as np
import pyarrow as pa
import pytest
from tiny_models import swapped, votes_with_gaps

from tiebreak.judge.logits import mean_over_orders, softmax
from tiebreak.judge.rules import kinds
from tiebreak.judge.tta import certainty_threshold, first_order, tta_probabilities
from tiebreak.recipe.schema import Tta

TTA = Tta(max_tokens=120, share=0.5)


@pytest.fixture
def table() -> pa.Table:
    return votes_with_gaps()


@pytest.fixture
def z() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(60, 2, 3))


def test_the_order_first_shown_stays_when_the_answers_are_swapped(table) -> None:
    (first, differ), (again, _) = first_order(table), first_order(swapped(table))
    assert np.array_equal(differ, kinds(table) != 4)
    assert np.array_equal(again[differ], 1 - first[differ])
    assert 0.2 < first.mean() < 0.8


def test_extreme_thresholds_are_one_order_and_both(table, z) -> None:
    order, differ = first_order(table)
    one = np.where(differ[:, None], softmax(z[np.arange(60), order]), mean_over_orders(z))
    np.testing.assert_array_equal(tta_probabilities(table, z, TTA, certain_from=0.0), one)
    np.testing.assert_array_equal(tta_probabilities(table, z, TTA, certain_from=1.0), mean_over_orders(z))
    np.testing.assert_array_equal(tta_probabilities(table, z, TTA, certain_from=None), mean_over_orders(z))
    stored = Tta(both_orders=False, share=0.5)
    np.testing.assert_array_equal(tta_probabilities(table, z, stored, certain_from=0.5), softmax(z[:, 0]))


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_the_share_asked_for_is_uncertain(table, z, share) -> None:
    limit = certainty_threshold(table, z, share)
    first, differ = first_order(table)
    uncertain = softmax(z[np.arange(60), first]).max(axis=1) < limit
    assert uncertain.sum() == round(60 * share)
    both = (tta_probabilities(table, z, TTA, limit) == mean_over_orders(z)).all(axis=1)
    assert np.array_equal(both, uncertain | ~differ)
    assert certainty_threshold(table, z, 1.0) is None
