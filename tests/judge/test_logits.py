import numpy as np
import pytest

from tiebreak.judge.logits import by_vote, mean_over_orders, softmax, to_table
from tiebreak.votes.schema import swap_answers


def table(ids, orders, z):
    n = len(ids)
    return to_table(ids, orders, np.array(z, np.float32), ["held_out"] * n, ["out_of_fold"] * n, "m", 0)


def test_the_swap_is_undone() -> None:
    z_RC = [[1, 2, 3], [4, 5, 6], [7, 8, 9], [0, 1, 2]]
    ids, z_NOC = by_vote(table(["x", "y", "x", "y"], [1, 0, 0, 1], z_RC))
    assert ids == ["x", "y"]
    assert z_NOC[0].tolist() == [[7, 8, 9], [2, 1, 3]]
    assert z_NOC[1].tolist() == [[4, 5, 6], [1, 0, 2]]


def test_a_row_twice_or_a_missing_order_is_an_error() -> None:
    with pytest.raises(ValueError, match="rows of logits"):
        by_vote(table(["x", "x"], [0, 0], [[1, 2, 3]] * 2))
    with pytest.raises(ValueError, match="rows of logits"):
        by_vote(table(["x", "x", "y"], [0, 1, 0], [[1, 2, 3]] * 3))


def test_mean_over_orders_is_a_mean_of_probabilities() -> None:
    z_NOC = np.random.default_rng(0).normal(size=(5, 2, 3)) * 4
    expected = (np.exp(z_NOC) / np.exp(z_NOC).sum(-1, keepdims=True)).mean(1)
    np.testing.assert_allclose(mean_over_orders(z_NOC), expected, atol=1e-12)
    np.testing.assert_allclose(softmax(z_NOC + 1000), softmax(z_NOC), atol=1e-9)
    assert np.array_equal(swap_answers(swap_answers(z_NOC)), z_NOC)
