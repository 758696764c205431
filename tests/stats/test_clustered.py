import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.stats import binomtest, t

from tiebreak.stats.clustered import FEWEST_PROMPTS, effective_groups, share


def ones(n):
    return np.ones(n)


def test_independent_votes_have_wilsons_interval_with_students_t():
    hit = (np.arange(263) < 81).astype(float)
    found = share(hit, ones(263), np.arange(263))
    z = t.ppf(0.975, 262)
    ends = [
        brentq(lambda p: (81 / 263 - p) ** 2 - z**2 * p * (1 - p) / 263, *bracket)
        for bracket in ((1e-9, 81 / 263), (81 / 263, 1 - 1e-9))
    ]
    assert (found.low, found.high) == pytest.approx(ends, abs=1e-6)
    by_scipy = binomtest(81, 263).proportion_ci(0.95, method="wilson")
    assert (found.low, found.high) == pytest.approx((by_scipy.low, by_scipy.high), abs=5e-4)
    assert (found.value, found.votes, found.prompts) == (81 / 263, 263, 263)


def test_votes_that_only_repeat_others_of_their_group_change_nothing():
    hit = (np.random.default_rng(0).random(60) < 0.3).astype(float)
    once = share(hit, ones(60), np.arange(60))
    fourfold = share(np.repeat(hit, 4), ones(240), np.repeat(np.arange(60), 4))
    assert (fourfold.low, fourfold.high) == pytest.approx((once.low, once.high), abs=1e-9)
    weighted = share(np.repeat(hit, 4) / 4, np.full(240, 0.25), np.repeat(np.arange(60), 4))
    assert (weighted.low, weighted.high) == pytest.approx((once.low, once.high), abs=1e-9)
    assert (fourfold.votes, weighted.votes) == (240, 60)


def test_votes_that_agree_no_more_within_a_group_than_between_count_each():
    hit = np.tile([1.0, 0.0], 200)
    found = share(hit, ones(400), np.repeat(np.arange(100), 4))
    by_scipy = binomtest(200, 400).proportion_ci(0.95, method="wilson")
    assert found.high - found.low == pytest.approx(by_scipy.high - by_scipy.low, rel=0.02)


def test_a_share_of_none_is_known_no_better_than_its_prompts_allow():
    found = share(np.zeros(400), ones(400), np.repeat(np.arange(100), 4))
    by_scipy = binomtest(0, 100).proportion_ci(0.95, method="wilson")
    assert (found.low, found.high) == pytest.approx((0, by_scipy.high), abs=2e-3)


def test_too_few_prompts_have_no_interval():
    few = FEWEST_PROMPTS - 1
    assert not share(ones(10 * few), ones(10 * few), np.repeat(np.arange(few), 10)).has_interval
    assert share(ones(few + 1), ones(few + 1), np.arange(few + 1)).has_interval
    one_large = np.maximum(np.arange(1000) - 900, 0)
    assert not share(ones(1000), ones(1000), one_large).has_interval, "900 of the votes are on one prompt"
    nothing = share(np.zeros(3), np.zeros(3), np.arange(3))
    assert (nothing.votes, nothing.prompts, nothing.has_interval) == (0, 0, False)


def test_effective_groups():
    assert effective_groups(ones(20), np.arange(20)) == 20
    assert effective_groups(np.full(60, 1 / 3), np.repeat(np.arange(20) * 7, 3)) == 20
    assert effective_groups(np.array([3.0, 1.0]), np.array([5, 9])) == 16 / 10


@pytest.mark.parametrize(
    ("p", "sizes"), [(0.4, (4,)), (0.4, (1, 1, 1, 2, 4, 12)), (0.05, (1, 1, 1, 2, 4, 12))], ids=str
)
def test_intervals_of_correlated_votes_have_their_nominal_coverage(p, sizes):
    rng = np.random.default_rng(1)
    covered, by_binomial = [], []
    for _ in range(400):
        size = rng.choice(sizes, 300)
        group = np.repeat(np.arange(300), size)
        hit = (rng.random(len(group)) < rng.beta(2 * p, 2 * (1 - p), 300)[group]).astype(float)  # ICC 1/3
        found = share(hit, ones(len(hit)), group)
        covered.append(found.low <= p <= found.high)
        naive = share(hit, ones(len(hit)), np.arange(len(hit)))
        by_binomial.append(naive.low <= p <= naive.high)
    assert 0.925 <= np.mean(covered) <= 0.975
    assert np.mean(by_binomial) < 0.9
