import numpy as np
import pytest

from tiebreak.data.logits import softmax
from tiebreak.evaluate.ladder import Rung, Truth, prior_rung
from tiebreak.evaluate.metrics import Bootstrap, Estimate, difference
from tiebreak.evaluate.simple import from_baseline, sentence


@pytest.fixture
def world():
    random = np.random.default_rng(0)
    z = random.normal(size=(400, 3))
    y = np.eye(3)[[random.choice(3, p=p) for p in softmax(z)]]
    truth = Truth([str(n) for n in range(400)], y, np.arange(400) // 2)

    def rung(stage, sharpness, calibrated=False):
        return Rung(stage, False, calibrated, ("",), (softmax(sharpness * z),))

    return rung, truth


def test_the_last_rung_is_set_against_the_calibrated_baseline(world) -> None:
    rung, truth = world
    ladder = [
        prior_rung(np.full(3, 1 / 3), 400), rung("baseline", 0.1), rung("baseline", 0.3, True), rung("student", 0.2),
        rung("as shipped", 1.0),
    ]  # fmt: skip
    bootstrap = Bootstrap(200)
    found = from_baseline(ladder, truth, bootstrap)
    expected = difference(
        ladder[-1].predictions, ladder[2].predictions, truth.y_NC, bootstrap, truth.groups_N
    )
    assert found["change"] == {"value": expected.value, "low": expected.low, "high": expected.high}
    assert found["sentence"].startswith("The shipped judge is better than a model of word counts by 0.")


def test_without_a_baseline_nothing_is_said(world) -> None:
    rung, truth = world
    assert from_baseline([rung("as shipped", 1.0)], truth, Bootstrap(10)) is None
    assert from_baseline([], truth, Bootstrap(10)) is None


def test_sentences() -> None:
    assert sentence(Estimate(-0.052, -0.081, -0.027)) == (
        "The shipped judge is better than a model of word counts by 0.052 (0.027 to 0.081)."
    )
    assert "not better" in sentence(Estimate(-0.01, -0.03, 0.01))
    assert "change in log loss -0.030 to +0.010" in sentence(Estimate(-0.01, -0.03, 0.01))
    assert sentence(Estimate(0.02, 0.01, 0.03)).startswith(
        "The shipped judge is worse than a model of word counts by 0.020 (0.010 to 0.030); use that model"
    )
