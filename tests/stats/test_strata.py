import numpy as np
import pytest
from scipy.stats import t, ttest_1samp, ttest_rel

from tiebreak.stats.clustered import share
from tiebreak.stats.strata import Rows, weighted_change, weighted_share

ONE = {"all": 1.0}


def rows(values, strata=None, clusters=None) -> Rows:
    n = len(values)
    return Rows(
        np.array(values, dtype=float),
        np.array(strata if strata is not None else ["all"] * n, dtype=str),
        np.arange(n) if clusters is None else np.array(clusters),
    )


def test_one_stratum_of_single_rows_is_a_t_test():
    random = np.random.default_rng(0)
    first, second = (random.random(80) < 0.6).astype(float), (random.random(80) < 0.5).astype(float)
    found = weighted_change(rows(first).less(rows(second)), ONE)
    by_scipy = ttest_rel(first, second)
    interval = ttest_1samp(first - second, 0).confidence_interval()
    assert found.p == pytest.approx(by_scipy.pvalue, rel=1e-9)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high), rel=1e-9)


def test_one_stratum_has_the_interval_of_a_clustered_share():
    hits = (np.random.default_rng(1).random(200) < 0.3).astype(float)
    found, other = weighted_share(rows(hits), ONE), share(hits, np.ones(200), np.arange(200))
    assert (found.low, found.high) == pytest.approx((other.low, other.high), abs=2e-3)


def test_a_perfect_score_has_an_interval_too():
    found = weighted_share(rows(np.ones(50)), ONE)
    assert found.low < 0.94
    assert found.value == found.high == 1
    assert weighted_share(rows(np.ones(29)), ONE).low is None


def test_weights_count_not_sizes():
    strata = ["a"] * 90 + ["b"] * 10
    values = [1.0] * 90 + [0.0] * 10
    assert weighted_share(rows(values, strata), {"a": 0.5, "b": 0.5}).value == 0.5
    assert weighted_share(rows(values, strata), {"a": 1.0}).value == 1


def test_repetitions_in_other_strata_add_nothing():
    """The same rows in two strata, by cluster, have the interval of one."""
    changes = np.random.default_rng(2).integers(-1, 2, size=60)
    once = weighted_change(rows(changes), ONE)
    both = rows(np.tile(changes, 2), ["a"] * 60 + ["b"] * 60, np.tile(np.arange(60), 2))
    found = weighted_change(both, {"a": 0.5, "b": 0.5})
    assert (found.low, found.high) == pytest.approx((once.low, once.high))
    apart = weighted_change(rows(np.tile(changes, 2), ["a"] * 60 + ["b"] * 60), {"a": 0.5, "b": 0.5})
    assert apart.high - apart.low < 0.75 * (once.high - once.low)


def test_a_small_stratum_without_a_mistake_and_one_of_large_weight_widen_the_interval():
    """Half of the weight is on ten rows: it has the variance of ten, not of the rows that the others have, with as few degrees of freedom."""
    weights = {"a": 0.5, "b": 0.5}
    strata = ["a"] * 10 + ["b"] * 500
    hits = np.r_[np.ones(9), 0, np.ones(400), np.zeros(100)]
    found = weighted_change(rows(hits, strata), weights)
    error = np.sqrt(hits[:10].var(ddof=1) / 10 + hits[10:].var(ddof=1) / 500) / 2
    assert found.high - found.value > 2.2 * error, "Student's t of about nine degrees of freedom"
    perfect = np.r_[np.ones(10), np.ones(400), np.zeros(100)]
    one = weighted_share(rows(perfect, strata), weights)
    other = weighted_share(rows(perfect[10:]), ONE)
    assert one.high - one.low > other.high - other.low


def test_intervals_cover_where_the_hardest_subset_is_the_smallest():
    """50 of 1,000 questions have a quarter of the weight; benchmarks/bench_coverage.py has more of it."""
    random = np.random.default_rng(5)
    strata = np.repeat(list("abcd"), [50, 150, 300, 500])
    p = np.repeat([0.86, 0.915, 0.94, 0.97], [50, 150, 300, 500])
    weights = dict.fromkeys("abcd", 0.25)
    covered = []
    for _ in range(300):
        found = weighted_share(rows(random.random(1000) < p, strata), weights)
        covered.append(found.low <= (0.86 + 0.915 + 0.94 + 0.97) / 4 <= found.high)
    assert 0.925 <= np.mean(covered) <= 0.98


def test_judges_alike_do_not_differ():
    """The interval is that of Agresti and Min, (b - c) / (n + 2) -+ t times the error of the table with half a row in each cell."""
    hits = np.ones(40)
    found = weighted_change(rows(hits).less(rows(hits)), ONE)
    half = t.ppf(0.975, 39) * np.sqrt(1 / 42 / 42)
    assert (found.value, found.p) == (0, 1)
    assert (found.low, found.high) == pytest.approx((-half, half))
    doubled = weighted_change(rows(2 * hits).less(rows(2 * hits)), ONE, (0.0, 2.0))
    assert doubled.high == pytest.approx(2 * half)


def test_changes_between_good_judges_cover():
    """Of 30 questions both get most right; benchmarks/bench_coverage.py has strata and prompts."""
    random = np.random.default_rng(6)
    covered = []
    for _ in range(500):
        one, other = (random.random((2, 30)) < [[0.98], [0.985]]).astype(float)
        found = weighted_change(rows(other).less(rows(one)), ONE)
        covered.append(found.low <= 0.005 <= found.high)
    assert np.mean(covered) >= 0.95


def test_intervals_cover_with_unequal_strata_and_clusters():
    """400 worlds: two strata of other difficulty, weighted against their sizes, prompts in both."""
    random = np.random.default_rng(3)
    weights = {"a": 0.3, "b": 0.7}
    covered = []
    for _ in range(400):
        easy = random.beta(2, 1, size=120)
        cluster = np.concatenate([np.arange(120), np.arange(40)])
        p = np.concatenate([easy, 0.5 * easy[:40]])
        hits = (random.random(160) < p).astype(float)
        found = weighted_share(rows(hits, ["a"] * 120 + ["b"] * 40, cluster), weights)
        covered.append(found.low <= 0.3 * 2 / 3 + 0.7 / 3 <= found.high)
    assert 0.92 <= np.mean(covered) <= 0.98
