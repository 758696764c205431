"""Strengths from votes, a judge or both: as other packages have them, and intervals that hold whatever the judge says."""

import runpy
from pathlib import Path

import numpy as np
import pytest
from made_up_votes import JUDGES, all_pairs, drawn, probabilities

from tiebreak.stats import bradley_terry, davidson, ratings

PEERS = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "compare_peers.py"))
EVALICA = [0.5739179812842181, 0.14946438049035193, -0.05019039174563081, -0.673191970028939]
PPI = [1.1806730152040534, 0.6971882063596202, 0.7332657901571932]
"""By evalica 0.4.2 and ppi-python 0.2.3 (of models 0 to 2, against model 3): python benchmarks/compare_peers.py."""


def two_ways(won):
    return np.stack([won, 1 - won, np.zeros_like(won)], axis=1)


def test_without_ties_they_are_those_of_evalica():
    data = PEERS["votes"]()
    found = ratings.fit(data["model"], two_ways(data["won"]), np.arange(len(data["won"])), 4)
    assert found.strengths_ == pytest.approx(EVALICA, abs=1e-6)
    assert found.log_tie_ == -np.inf
    assert found.probabilities(np.array([0]), np.array([1]))[0, 2] == 0


def test_with_a_judge_they_are_those_of_ppi_py():
    data = PEERS["votes"]()
    rows = np.arange(len(data["won"]))
    y = np.where((rows < len(rows) // 4)[:, None], two_ways(data["won"]), np.nan)
    found = ratings.fit(data["model"], y, rows, 4, two_ways(data["p"]), weight=0.7 * 4 / 3)
    assert found.strengths_[:3] - found.strengths_[3] == pytest.approx(PPI, abs=1e-6)


def test_with_ties_they_are_davidsons_whatever_side_a_model_is_on():
    random = np.random.default_rng(0)
    models, gap, groups = all_pairs(random, np.array([0.5, 0.0, -0.5]), 200)
    y = drawn(random, probabilities(gap))
    expected = davidson.fit(models, y, 3)
    flip = random.random(len(y)) < 0.5
    sides = np.where(flip[:, None], models[:, ::-1], models)
    found = ratings.fit(sides, np.where(flip[:, None], y[:, [1, 0, 2]], y), groups, 3)
    assert found.strengths_ == pytest.approx(expected.strengths_, abs=1e-6)
    assert found.log_tie_ == pytest.approx(expected.log_tie_, abs=1e-6)
    both = np.concatenate([models, models[:, ::-1]])  # no side has an advantage
    twice = np.concatenate([y, y[:, [1, 0, 2]]])
    by_sides = bradley_terry.fit(both, twice, np.ones(len(both)), np.tile(groups, 2), 3)
    assert bradley_terry.ELO * found.margins == pytest.approx(by_sides.margin_, rel=1e-6)


def test_each_contrast_has_its_standard_error():
    random = np.random.default_rng(1)
    models, gap, groups = all_pairs(random, np.array([0.5, 0.0, -0.5]), 200)
    found = ratings.fit(models, drawn(random, probabilities(gap)), groups, 3)
    gap_P, half_P = found.gaps(np.array([0, 0]), np.array([1, 2]))
    assert gap_P == pytest.approx(found.strengths_[0] - found.strengths_[1:])
    assert (half_P > found.margins[0]).all()
    assert found.covariance_.sum(axis=0) == pytest.approx(0, abs=1e-12), (
        "strengths are relative to their mean"
    )


def test_a_judge_of_the_voted_rows_alone_changes_nothing():
    random = np.random.default_rng(2)
    models, gap, groups = all_pairs(random, np.array([0.5, 0.0, -0.5]), 50)
    y = drawn(random, probabilities(gap))
    found = ratings.fit(models, y, groups, 3, probabilities(gap))
    alone = ratings.fit(models, y, groups, 3)
    assert found.strengths_ == pytest.approx(alone.strengths_)
    assert found.margins == pytest.approx(alone.margins)


def test_judged_pairs_without_votes_are_left_out():
    """A judge who is wrong about them would spoil the rest: their rows have no votes to correct him."""
    random = np.random.default_rng(3)
    models, gap, groups = all_pairs(random, np.array([0.5, 0.0, -0.5]), 300)
    y = np.where(
        ((models[:, 1] == 2) & (models[:, 0] == 0))[:, None], np.nan, drawn(random, probabilities(gap))
    )
    f = probabilities(np.where((models == [0, 2]).all(axis=1), -9.0, gap))
    kept = ~np.isnan(y[:, 0])
    found = ratings.fit(models, y, groups, 3, f)
    expected = ratings.fit(models[kept], y[kept], groups[kept], 3, f[kept])
    assert found.strengths_ == pytest.approx(expected.strengths_)


def test_a_model_that_always_wins_or_has_no_votes_is_not_comparable():
    models = np.array([[0, 1], [1, 0], [0, 1], [2, 0], [2, 1], [3, 0]])
    y = np.eye(3)[[0, 0, 2, 0, 0, 0]]
    y[5] = np.nan
    found = ratings.fit(models, y, np.arange(6), 4, np.full((6, 3), 1 / 3))
    assert found.comparable_.tolist() == [True, True, False, False]
    assert np.isnan(found.strengths_[2:]).all()
    with pytest.raises(ValueError, match="no votes"):
        ratings.fit(models, y * np.nan, np.arange(6), 4)


@pytest.mark.parametrize("judge", JUDGES)
def test_intervals_hold_whatever_the_judge_says(judge):
    """On 200 votes, one a prompt; more of it in benchmarks/compare.py."""
    random = np.random.default_rng(4)
    true = np.array([0.6, 0.1, -0.1, -0.6])
    models, gap, groups = all_pairs(random, true, 30_000)
    truth = ratings.fit(models, probabilities(gap), groups, 4).strengths_
    covered, width = [], []
    for _ in range(120):
        models, gap, groups = all_pairs(random, true, 300)
        voted = (6 * np.arange(300) + random.integers(0, 6, 300))[:200]
        y = np.full((len(gap), 3), np.nan)
        y[voted] = drawn(random, probabilities(gap))[voted]
        found = ratings.fit(models, y, groups, 4, JUDGES[judge](gap, models, random))
        covered.append(np.abs(found.strengths_ - truth) <= found.margins)
        width.append(found.margins.mean() / ratings.fit(models, y, groups, 4).margins.mean())
    assert 0.925 <= np.mean(covered) <= 0.975
    assert np.mean(width) <= (1.005 if judge == "adversarial" else 0.95)


def test_a_judge_never_widens_the_strengths():
    """In sum; one who says anything did, on 40 votes, in half of all worlds."""
    random = np.random.default_rng(6)
    for _ in range(20):
        models, gap, groups = all_pairs(random, np.array([0.4, 0.0, -0.4]), 40)
        y = np.where((groups < 14)[:, None], drawn(random, probabilities(gap)), np.nan)
        found, alone = (
            ratings.fit(models, y, groups, 3, f) for f in (random.dirichlet([1, 1, 1], len(y)), None)
        )
        assert np.trace(found.covariance_) <= np.trace(alone.covariance_)
        if not found.weight_:
            assert found.strengths_ == pytest.approx(alone.strengths_)
