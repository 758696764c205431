import numpy as np
import pytest
import scipy.stats

from tiebreak.stats import metrics
from tiebreak.stats.calibration_test import calibration_error, calibration_test
from tiebreak.stats.metrics import Bootstrap, prior_prediction, targets

pytestmark = pytest.mark.slow


def world(
    random: np.random.Generator, prompts: int, votes: int = 1
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Calibrated probabilities, labels and prompts; votes on one prompt share a true probability that varies about them."""
    p = random.dirichlet([3, 3, 2], size=prompts)
    gamma = random.standard_gamma(6 * p)
    true = np.repeat(gamma / gamma.sum(axis=1, keepdims=True), votes, axis=0)
    labels = (random.random(len(true))[:, None] > true.cumsum(axis=1)[:, :2]).sum(axis=1)
    return np.repeat(p, votes, axis=0), labels, np.repeat(np.arange(prompts), votes)


def sharpened(p: np.ndarray, power: float) -> np.ndarray:
    q = p**power
    return q / q.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("votes", [1, 4])
def test_the_test_has_its_nominal_size(votes):
    random = np.random.default_rng(0)
    rejected = np.zeros((400, 2))
    for n in range(400):
        p, y, prompts = world(random, 100, votes)
        rejected[n, 0] = calibration_test(p, y, prompts).p < 0.05
        rejected[n, 1] = calibration_error([p], y, Bootstrap(99, seed=n), prompts).p <= 0.05
    for count in rejected.sum(axis=0):
        assert scipy.stats.binomtest(int(count), 400, 0.05).pvalue > 0.01


def test_overconfidence_is_found():
    p, y, prompts = world(np.random.default_rng(1), 2000)
    found = calibration_test(sharpened(p, 1.5), y, prompts)
    assert found.p < 1e-4
    assert found.worst == "sharpness"
    assert found.temperature == pytest.approx(1.5, abs=0.15)
    assert calibration_test(sharpened(p, 0.6), y, prompts).temperature < 1


def test_too_many_ties_and_a_liking_for_a_side_are_found():
    p, y, prompts = world(np.random.default_rng(2), 2000)
    ties, sides = p + np.array([0, 0, 0.1]), p + np.array([0.1, 0, 0])
    assert calibration_test(ties / 1.1, y, prompts).worst == "ties"
    found = calibration_test(sides / 1.1, y, prompts)
    assert (found.worst, found.p < 1e-4) == ("sides", True)
    expected = (sides[:, 0] - sides[:, 1]).mean() / 1.1 - ((y == 0).mean() - (y == 1).mean())
    assert found.lead_gap == pytest.approx(expected)


def test_the_test_is_hotellings():
    p, y, prompts = world(np.random.default_rng(3), 80, 3)
    residual = targets(y) - p
    scores = np.stack([(residual * np.log(p)).sum(axis=1), residual[:, 2], residual[:, 0] - residual[:, 1]])
    sums = np.array([[row[prompts == g].sum() for row in scores] for g in range(80)])
    t2 = 80 * sums.mean(axis=0) @ np.linalg.solve(np.cov(sums.T), sums.mean(axis=0))
    expected = scipy.stats.f.sf(t2 * (80 - 3) / (3 * 79), 3, 77)
    assert calibration_test(p, y, prompts).p == pytest.approx(expected)


def test_soft_labels_that_are_the_truth_are_no_miscalibration():
    random = np.random.default_rng(4)
    p, _, _ = world(random, 500)
    gamma = random.standard_gamma(6 * p)
    soft = gamma / gamma.sum(axis=1, keepdims=True)
    assert calibration_test(p, soft).p > 0.01
    error = calibration_error([p], soft, Bootstrap(200))
    assert error.value < error.limit < 0.6 * calibration_error([p], soft.argmax(axis=1), Bootstrap(200)).limit


@pytest.mark.parametrize("shares", [[1 / 3, 1 / 3, 1 / 3], [0.35, 0.35, 0.3], [0.4, 0.3, 0.3]])
def test_class_shares_are_calibrated_where_they_are_the_votes_shares(shares):
    counts = np.round(np.array(shares) * 600).astype(int)
    right = calibration_test(prior_prediction(counts / 600, 600), np.repeat([0, 1, 2], counts))
    wrong = calibration_test(prior_prediction(shares, 600), np.repeat([0, 1, 2], [350, 150, 100]))
    assert right.p > 0.99
    assert wrong.p < 1e-6


def test_the_error_of_several_models_is_the_mean_of_theirs():
    random = np.random.default_rng(5)
    p, y, prompts = world(random, 60, 2)
    q = sharpened(p, 2)
    both = calibration_error([p, q], y, Bootstrap(50), prompts)
    alone = [calibration_error([x], y, Bootstrap(50), prompts) for x in (p, q)]
    assert both.value == pytest.approx((metrics.ece(p, y) + metrics.ece(q, y)) / 2)
    assert both.when_calibrated == pytest.approx(np.mean([x.when_calibrated for x in alone]))


def test_few_prompts_are_not_tested():
    p, y, prompts = world(np.random.default_rng(6), 29, 5)
    error = calibration_error([p], y, Bootstrap(50), prompts)
    assert error.value == pytest.approx(metrics.ece(p, y))
    assert error.when_calibrated is error.limit is error.p is None
    assert calibration_test(p, y, prompts).p is None
