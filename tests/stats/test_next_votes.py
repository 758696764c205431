import numpy as np
import pytest
from made_up_votes import all_pairs, drawn, probabilities

from tiebreak.stats import ratings
from tiebreak.stats.next_votes import information, leaders, next_votes

PAIRS = np.array([[0, 1], [0, 2], [1, 2]])


def fitted(votes):
    """With so many votes on each of PAIRS."""
    random = np.random.default_rng(0)
    models = np.repeat(PAIRS, votes, axis=0)
    y = drawn(random, probabilities(np.zeros(len(models))))
    return ratings.fit(models, y, np.arange(len(y)), 3)


def test_pairs_with_few_votes_come_first_and_no_more_than_are_free():
    chosen, _ = next_votes(fitted([400, 30, 30]), PAIRS, np.array([999, 999, 999]), 100)
    assert chosen.sum() == 100
    assert chosen[0] == 0
    chosen, _ = next_votes(fitted([400, 30, 30]), PAIRS, np.array([999, 5, 2]), 100)
    assert chosen.tolist() == [93, 5, 2]
    assert next_votes(fitted([40, 30, 30]), PAIRS, np.array([1, 1, 1]), 100)[0].tolist() == [1, 1, 1]


def test_the_expected_gain_is_about_what_comes():
    random = np.random.default_rng(1)
    models, gap, _ = all_pairs(random, np.array([0.4, 0.0, -0.4]), 2000)
    y = drawn(random, probabilities(gap))
    before, after = (ratings.fit(models[:n], y[:n], np.arange(n), 3) for n in (600, 1200))
    chosen, gain = next_votes(before, PAIRS, np.array([9999] * 3), 600)
    assert chosen == pytest.approx(np.full(3, 200), abs=60)
    assert gain == pytest.approx(1 - after.margins.mean() / before.margins.mean(), abs=0.03)


def test_models_that_cannot_be_compared_get_none():
    random = np.random.default_rng(2)
    models = np.repeat([[0, 1], [2, 1]], 40, axis=0)
    y = drawn(random, probabilities(np.zeros(80)))
    y[40:] = [1, 0, 0]
    found = ratings.fit(models, y, np.arange(80), 3)
    assert next_votes(found, PAIRS, np.array([9, 9, 9]), 20)[0].tolist() == [9, 0, 0]


def test_the_first_pair_is_the_one_that_narrows_the_contrasts_most():
    """Against the covariance with that pair's information added, for each pair in turn."""
    random = np.random.default_rng(3)
    models, gap, groups = all_pairs(random, np.array([1.2, 0.9, 0.3, -1.0]), 60)
    found = ratings.fit(models, drawn(random, probabilities(gap)), groups, 4)
    pairs = np.stack(np.triu_indices(4, 1), axis=1)
    for contrasts in (np.eye(4), leaders(found), np.array([[0.0, 1, 0, -1]])):
        left = []
        for pair, i in zip(pairs, information(found, pairs), strict=True):
            x = np.eye(4)[pair[0]] - np.eye(4)[pair[1]]
            precision = np.linalg.pinv(found.covariance_) + i * np.outer(x, x)
            left.append(np.trace(contrasts @ np.linalg.pinv(precision) @ contrasts.T))
        chosen, falls = next_votes(found, pairs, np.full(6, 9), 1, contrasts_TM=contrasts)
        assert chosen.argmax() == np.argmin(left)
        before = np.trace(contrasts @ found.covariance_ @ contrasts.T)
        assert falls == pytest.approx(1 - np.sqrt(min(left) / before), rel=1e-6)


def test_leaders_are_compared_with_those_that_may_be_as_good():
    random = np.random.default_rng(4)
    models, gap, groups = all_pairs(random, np.array([-2.0, 1.0, 0.95, 0.9]), 400)
    found = ratings.fit(models, drawn(random, probabilities(gap)), groups, 4)
    first = int(found.strengths_.argmax())
    contrasts = leaders(found)
    assert (contrasts[:, first] == 1).all()
    assert (contrasts[:, 0] == 0).all()
    assert contrasts.sum(axis=1) == pytest.approx(0)
    with pytest.raises(ValueError, match="no two models"):
        leaders(ratings.fit(np.array([[0, 1]]), np.eye(3)[:1], np.arange(1), 2))


def test_many_votes_are_given_out_in_steps():
    chosen, _ = next_votes(fitted([60, 60, 60]), PAIRS, np.array([9999, 9999, 150]), 5000)
    assert chosen.sum() == 5000
    assert chosen[2] == 150
    assert chosen[0] == pytest.approx(chosen[1], abs=200)
