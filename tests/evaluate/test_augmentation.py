import numpy as np
import pytest

from tiebreak.data.logits import mean_over_orders, softmax
from tiebreak.evaluate.augmentation import partly_augmented, trade
from tiebreak.evaluate.ladder import Truth
from tiebreak.evaluate.metrics import Bootstrap, log_loss


@pytest.fixture
def z() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(50, 2, 3))


def test_the_ends_are_one_order_and_both(z):
    np.testing.assert_array_equal(partly_augmented(z, 0.0), softmax(z[:, 0]))
    np.testing.assert_array_equal(partly_augmented(z, 1.0), mean_over_orders(z))


def test_the_least_certain_are_augmented(z):
    one, both = softmax(z[:, 0]), mean_over_orders(z)
    found = partly_augmented(z, 0.3)
    augmented = (found == both).all(axis=1)
    assert augmented.sum() == 15
    assert (found[~augmented] == one[~augmented]).all()
    assert one[augmented].max(axis=1).max() <= one[~augmented].max(axis=1).min()


def test_trade_measures_what_was_augmented(z):
    truth = Truth([str(n) for n in range(50)], np.eye(3)[np.arange(50) % 3], np.arange(50))
    none, some, full = trade(z, truth, Bootstrap(20), shares=(0.0, 0.5, 1.0))
    assert none["change"] == {"value": 0, "low": 0, "high": 0}
    assert some["log_loss"] == pytest.approx(log_loss(partly_augmented(z, 0.5), truth.y_NC))
    assert full["change"]["value"] == pytest.approx(full["log_loss"] - none["log_loss"])
