import itertools

import numpy as np
import pytest
import scipy.stats
import sklearn.metrics

from tiebreak.stats import metrics
from tiebreak.stats.metrics import Bootstrap, Estimate


def predictions(n: int = 400, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Calibrated probabilities (n, 3) and labels drawn from them."""
    random = np.random.default_rng(seed)
    p = random.dirichlet([1.5, 1.5, 1.0], size=n)
    return p, (random.random(n)[:, None] > p.cumsum(axis=1)[:, :2]).sum(axis=1)


def test_scores_equal_sklearn():
    p, y = predictions()
    assert metrics.log_loss(p, y) == pytest.approx(sklearn.metrics.log_loss(y, p, labels=[0, 1, 2]))
    assert metrics.accuracy(p, y) == sklearn.metrics.accuracy_score(y, p.argmax(axis=1))
    expected = sklearn.metrics.brier_score_loss(y, p, labels=[0, 1, 2], scale_by_half=False)
    assert metrics.brier(p, y) == pytest.approx(expected)


def test_a_certain_mistake_costs_the_clip():
    assert metrics.log_loss(np.array([[1.0, 0, 0]]), [1]) == pytest.approx(-np.log(1e-15))


def test_soft_labels_are_the_mean_over_hard_ones():
    p, _ = predictions(50)
    soft = np.random.default_rng(1).dirichlet([1, 1, 1], size=50)
    for score in (metrics.row_log_loss, metrics.row_accuracy):
        parts = [soft[:, c] * score(p, np.full(50, c)) for c in range(3)]
        np.testing.assert_allclose(score(p, soft), np.sum(parts, axis=0))


@pytest.mark.parametrize("labels", [[0, 3], [0.5, 1], [[0.5, 0.5, 0.5]], [[1.0, 0.0]], [[1.5, -0.5, 0]]])
def test_labels_that_are_none_are_refused(labels):
    with pytest.raises(ValueError, match="labels must be"):
        metrics.targets(labels)


def brute_force_ece(p: np.ndarray, y: np.ndarray, edges: np.ndarray) -> float:
    total = 0.0
    for low, high in itertools.pairwise(edges):
        rows = [n for n in range(len(p)) if low < max(p[n]) <= high]
        if rows:
            confidence = sum(max(p[n]) for n in rows) / len(rows)
            right = sum(p[n].argmax() == y[n] for n in rows) / len(rows)
            total += len(rows) / len(p) * abs(confidence - right)
    return total


def test_ece_equals_brute_force():
    p, y = predictions(200)
    widths = np.linspace(0, 1, 11)
    assert metrics.ece(p, y, bins=10, equal_mass=False) == pytest.approx(brute_force_ece(p, y, widths))
    masses = np.quantile(p.max(axis=1), widths)
    masses[0], masses[-1] = 0, 1
    assert metrics.ece(p, y, bins=10) == pytest.approx(brute_force_ece(p, y, masses))


def test_bins_of_equal_mass_hold_equal_counts():
    confidence = np.random.default_rng(0).random(1500)
    assert set(np.bincount(metrics.bin_of(confidence, 15))) <= {99, 100, 101}
    assert set(metrics.bin_of(np.full(9, 0.4), 15)) == {0}


def test_the_interval_of_a_mean_is_students():
    x = np.random.default_rng(0).normal(size=40)
    (found,) = Bootstrap(20000).estimates(x[:, None])
    expected = scipy.stats.t.interval(0.95, 39, x.mean(), scipy.stats.sem(x))
    assert found.value == pytest.approx(x.mean())
    assert (found.low, found.high) == pytest.approx(expected, abs=0.03 * x.std())


def test_few_groups_allow_no_interval():
    x = np.random.default_rng(0).normal(size=(116, 1))
    (few,) = Bootstrap(50).estimates(x, np.arange(116) // 4)  # 29 groups
    (enough,) = Bootstrap(50).estimates(x, np.arange(116) % 30)
    assert (few.low, few.high) == (None, None)
    assert few.value == enough.value == pytest.approx(x.mean())
    assert enough.low < enough.value < enough.high


def test_the_minimum_detectable_difference_is_found_with_the_power_stated():
    """A z test of known variance finds 80 % of differences of that size."""
    random = np.random.default_rng(1)
    change = Estimate(0.1, 0.1 - 1.96 * 0.5, 0.1 + 1.96 * 0.5)  # a standard error of 0.5
    difference = metrics.minimum_detectable(change, 0.95)
    found = np.abs(random.normal(difference, 0.5, size=20000)) > 1.96 * 0.5
    assert found.mean() == pytest.approx(0.8, abs=0.01)
    assert metrics.minimum_detectable(Estimate(0.1), 0.95) is None


def test_intervals_of_clustered_votes_have_their_nominal_coverage():
    """Coverage over 200 samples of 40 prompts with 1 to 7 votes that share half their variance."""
    random = np.random.default_rng(2)
    covered = []
    for _ in range(200):
        groups = np.repeat(np.arange(40), random.integers(1, 8, size=40))
        x = random.normal(size=40)[groups] + random.normal(size=len(groups))
        (found,) = Bootstrap(200).estimates(x[:, None], groups)
        covered.append(found.low <= 0 <= found.high)
    assert scipy.stats.binomtest(sum(covered), 200, 0.95).pvalue > 0.01


def test_bootstrap_equals_drawing_rows_one_by_one():
    values = np.random.default_rng(0).normal(size=(20, 2))
    random = np.random.default_rng(5)
    expected = [values[random.integers(20, size=20)].mean(axis=0) for _ in range(7)]
    np.testing.assert_allclose(Bootstrap(7, seed=5).means(values), expected)


def test_bootstrap_by_group_equals_drawing_groups_one_by_one():
    random = np.random.default_rng(1)
    values, groups = random.normal(size=(50, 1)), random.integers(7, size=50) * 11
    names, random = np.unique(groups), np.random.default_rng(5)
    expected = []
    for _ in range(6):
        rows = np.concatenate([np.flatnonzero(groups == names[g]) for g in random.integers(7, size=7)])
        expected.append(values[rows].mean(axis=0))
    np.testing.assert_allclose(Bootstrap(6, seed=5).means(values, groups), expected)


def test_copies_of_a_row_in_one_group_do_not_narrow_the_interval():
    x = np.random.default_rng(0).normal(size=(300, 1))
    plain = Bootstrap(500).means(x)
    copied = Bootstrap(500).means(np.repeat(x, 5, axis=0), np.repeat(np.arange(300), 5))
    np.testing.assert_allclose(copied, plain)


def test_summary_holds_the_plain_scores_and_intervals_around_them():
    p, y = predictions(500)
    summary = metrics.summarise([p], y, Bootstrap(300))
    assert set(summary) == set(metrics.METRICS)
    for name, estimate in summary.items():
        assert estimate.value == pytest.approx(getattr(metrics, name)(p, y))
        assert estimate.low < estimate.value < estimate.high


def test_summary_of_several_models_is_the_mean_of_their_scores():
    (p, y), (q, _) = predictions(300), predictions(300, seed=1)
    both = metrics.summarise([p, q], y, Bootstrap(50))
    for name, estimate in both.items():
        assert estimate.value == pytest.approx(
            (getattr(metrics, name)(p, y) + getattr(metrics, name)(q, y)) / 2
        )


def test_paired_difference_is_narrower_than_the_intervals_apart():
    p, y = predictions(1000)
    sharper = p**1.1 / (p**1.1).sum(axis=1, keepdims=True)
    change = metrics.difference([sharper], [p], y, Bootstrap(300))
    alone = metrics.summarise([p], y, Bootstrap(300))["log_loss"]
    assert change.value == pytest.approx(metrics.log_loss(sharper, y) - metrics.log_loss(p, y))
    assert change.high - change.low < 0.3 * (alone.high - alone.low)


def test_prior_scores_its_entropy_on_its_own_labels():
    y = np.repeat([0, 1, 2], [50, 30, 20])
    prior = [0.5, 0.3, 0.2]
    entropy = -sum(p * np.log(p) for p in prior)
    assert metrics.log_loss(metrics.prior_prediction(prior, 100), y) == pytest.approx(entropy)
