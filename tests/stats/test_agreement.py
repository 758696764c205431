"""Agreement beside scikit-learn's kappa, the package krippendorff's alpha, brute force, and the truth in simulation."""

from itertools import combinations

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from tiebreak.stats.agreement import among_people, cohen_kappa, label_counts, leave_one_out
from tiebreak.stats.metrics import MIN_GROUPS, Bootstrap

BOOTSTRAP = Bootstrap(200)
_ = -1
RATINGS = np.array(
    [
        [2, 1, 2, 2, _, _, 2, 0, _, 0, 0, 2, 2, 0, _, _, 0, 2, 0, 1, 2, _, 1, _, _],
        [2, 2, 2, 2, 1, 2, 1, 0, 2, 2, 2, 2, _, 0, _, 2, 0, _, 0, 1, _, 0, 0, 1, 2],
        [_, _, 2, _, 1, 2, 2, 0, _, 1, 0, 1, 1, 0, 1, 2, 0, 2, 2, 1, 2, _, 2, 1, 2],
        [_, 1, 2, 2, 1, 2, 0, 0, _, _, _, 2, 2, _, 1, 2, 0, 2, 0, 1, 1, 0, 1, _, _],
    ]
)
"""Four people's labels of 25 items, -1 where there is none."""

ALPHA = 0.5580668871738332
"""krippendorff 0.9.0: alpha(reliability_data=RATINGS, level_of_measurement="nominal"), with NaN for -1."""


def counts_of(ratings):
    person, item = np.nonzero(ratings >= 0)
    return label_counts(item, ratings[person, item], ratings.shape[1])


def test_alpha_is_that_of_the_package_krippendorff():
    found = among_people(counts_of(RATINGS), np.arange(25), BOOTSTRAP)
    assert found.alpha.value == pytest.approx(ALPHA, abs=1e-12)
    assert (found.items, found.votes) == (24, 75), "an item with one vote pairs with none"
    assert found.alpha.low is None, f"fewer than {MIN_GROUPS} items"


def test_alpha_where_all_agree_or_there_is_one_label():
    alike = np.tile(np.array([[0, 1, 2]]), (2, 20))
    assert among_people(counts_of(alike), np.arange(60), BOOTSTRAP).alpha.value == 1
    assert among_people(counts_of(alike * 0), np.arange(60), BOOTSTRAP).alpha.value == 1
    assert among_people(counts_of(alike[:1]), np.arange(60), BOOTSTRAP) is None


def test_kappa_is_that_of_scikit_learn():
    random = np.random.default_rng(0)
    first = random.integers(3, size=300)
    second = np.where(random.random(300) < 0.6, first, random.integers(3, size=300))
    found = cohen_kappa(first, second, np.arange(300), BOOTSTRAP)
    assert found.kappa.value == pytest.approx(cohen_kappa_score(first, second), abs=1e-12)
    assert found.agreement.value == np.mean(first == second)
    assert found.kappa.low < found.kappa.value < found.kappa.high


def test_repeated_items_of_a_group_add_nothing():
    random = np.random.default_rng(1)
    first = random.integers(3, size=100)
    second = np.where(random.random(100) < 0.6, first, 2)
    once = cohen_kappa(first, second, np.arange(100), BOOTSTRAP)
    fourfold = cohen_kappa(np.repeat(first, 4), np.repeat(second, 4), np.repeat(np.arange(100), 4), BOOTSTRAP)
    assert fourfold.kappa == once.kappa


def test_leave_one_out_is_that_of_brute_force():
    counts_IC = counts_of(RATINGS)
    p_IC = np.random.default_rng(2).dirichlet(np.ones(3), size=25)
    shares = counts_IC[counts_IC.sum(axis=1) > 1].sum(axis=0)
    shares = shares / shares.sum()
    rows = []
    for item in range(25):
        labels = [label for label in RATINGS[:, item] if label >= 0]
        for n, label in enumerate(labels if len(labels) > 1 else ()):
            others = np.bincount([*labels[:n], *labels[n + 1 :]], minlength=3)
            most = np.flatnonzero(others == others.max())
            smoothed = (others[label] + shares[label]) / (others.sum() + 1)
            rows.append(
                (
                    p_IC[item].argmax() == label,
                    others[label] / others.sum(),
                    (label in most) / len(most),
                    np.log(p_IC[item, label] / smoothed),
                )
            )
    judge, person, majority, gain = np.mean(rows, axis=0)
    found = leave_one_out(p_IC, counts_IC, np.arange(25), BOOTSTRAP)
    assert found.votes == len(rows) == 75
    assert [found.judge.value, found.person.value, found.majority.value, found.gain.value] == pytest.approx(
        [judge, person, majority, gain]
    )
    assert found.less_person.value == pytest.approx(judge - person)
    assert found.less_majority.value == pytest.approx(judge - majority)


def test_a_person_is_predicted_as_often_as_two_people_agree():
    counts_IC = counts_of(RATINGS)
    found = leave_one_out(np.full((25, 3), 1 / 3), counts_IC, np.arange(25), BOOTSTRAP)
    assert found.person.value == pytest.approx(
        among_people(counts_IC, np.arange(25), BOOTSTRAP).agreement.value
    )
    pairs = [
        (a[n] == b[n], 1 / (np.sum(RATINGS[:, n] >= 0) - 1))
        for a, b in combinations(RATINGS, 2)
        for n in range(25)
        if a[n] >= 0 and b[n] >= 0
    ]
    hits, weights = np.array(pairs, dtype=float).T
    assert found.person.value == pytest.approx(np.average(hits, weights=weights))


def test_intervals_of_alpha_and_kappa_cover_on_clustered_prompts():
    """250 worlds of 80 prompts with one to three pairs each; the full table is benchmarks/agreement.py's."""
    random = np.random.default_rng(3)

    def world(prompts):
        size = random.integers(1, 4, size=prompts)
        group = np.repeat(np.arange(prompts), size)
        truth_PC = random.dirichlet([2.0, 2.0, 1.0], size=prompts)[group]
        draws = (random.random((len(group), 3, 1)) > truth_PC.cumsum(axis=1)[:, None, :2]).sum(axis=2)
        judge = truth_PC.argmax(axis=1)
        return group, draws, judge

    def figures(prompts):
        group, draws, judge = world(prompts)
        counts_IC = label_counts(np.repeat(np.arange(len(group)), 3), draws.ravel(), len(group))
        people = among_people(counts_IC, group, BOOTSTRAP)
        rater = cohen_kappa(np.repeat(judge, 3), draws.ravel(), np.repeat(group, 3), BOOTSTRAP)
        return people.alpha, rater.kappa

    true = [estimate.value for estimate in figures(40_000)]
    covered = np.array(
        [[e.low <= t <= e.high for e, t in zip(figures(80), true, strict=True)] for _ in range(250)]
    )
    assert (covered.mean(axis=0) > 0.91).all()
    assert (covered.mean(axis=0) < 0.985).all()


@pytest.mark.parametrize("agreeing", [1.0, 0.97])
def test_intervals_hold_near_full_agreement(agreeing):
    """Labels of two raters on 40 items; intervals by the standard error alone hold in 66 % of worlds of 0.97."""
    random = np.random.default_rng(7)
    held = []
    for _ in range(200 if agreeing < 1 else 1):
        labels = random.integers(0, 3, 40)
        other = np.where(random.random(40) < agreeing, labels, (labels + random.integers(1, 3, 40)) % 3)
        found = cohen_kappa(labels, other, np.arange(40), Bootstrap(100))
        held.append(found.agreement.low <= 0.97 <= found.agreement.high <= 1)
        assert found.kappa.low < found.kappa.value <= found.kappa.high <= 1
    assert np.mean(held) > 0.93


def test_all_who_agree_may_still_differ_elsewhere():
    counts = np.tile([3.0, 0, 0], (50, 1))
    people = among_people(counts, np.arange(50), Bootstrap(50))
    left_out = leave_one_out(np.tile([0.8, 0.1, 0.1], (50, 1)), counts, np.arange(50), Bootstrap(50))
    for found in (people.agreement, people.alpha, left_out.judge, left_out.person, left_out.majority):
        assert found.low < 0.95
        assert found.value == found.high == 1
