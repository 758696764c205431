import numpy as np
import pytest

from tiebreak.evaluate.skill_score import skill_score
from tiebreak.stats.metrics import Bootstrap, log_loss


def test_skill_score_by_hand():
    random = np.random.default_rng(0)
    true = random.dirichlet([1, 1, 1], size=600)
    labels = np.array([random.choice(3, p=p) for p in true])
    prior = np.full((600, 3), 1 / 3)
    model = (true + prior) / 2
    found = skill_score(model, prior, true, labels, Bootstrap(200))
    losses = [log_loss(p, labels) for p in (prior, model, true)]
    assert found.truth.value == pytest.approx(losses[2])
    assert found.share.value == pytest.approx((losses[0] - losses[1]) / (losses[0] - losses[2]))
    assert found.share.low < found.share.value < found.share.high


def test_prior_and_truth_score_zero_and_one():
    true, prior = np.array([[0.7, 0.2, 0.1]] * 40), np.full((40, 3), 1 / 3)
    for model, share in ((prior, 0.0), (true, 1.0)):
        found = skill_score(model, prior, true, [0, 0, 1, 0] * 10, Bootstrap(20)).share
        assert (found.value, found.low, found.high) == pytest.approx((share,) * 3, abs=1e-12)


def test_rows_of_a_group_are_drawn_together():
    random = np.random.default_rng(1)
    true = np.repeat(random.dirichlet([1, 1, 1], size=50), 8, axis=0)
    labels = np.repeat([random.choice(3, p=p) for p in true[::8]], 8)
    prior, model = np.full((400, 3), 1 / 3), np.roll(true, 1, axis=1) * 0.2 + true * 0.8
    alone = skill_score(model, prior, true, labels, Bootstrap(200)).share
    together = skill_score(model, prior, true, labels, Bootstrap(200), np.arange(400) // 8).share
    assert together.high - together.low > 1.5 * (alone.high - alone.low)
