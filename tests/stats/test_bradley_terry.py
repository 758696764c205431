import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.sparse.csgraph import connected_components
from scipy.stats import norm

from tiebreak.stats import bradley_terry


def davidson(gap, log_tie, advantage):
    """Probabilities (n, 3) for gaps (n,) of strength."""
    d = np.asarray(gap) + advantage
    z = np.stack([d / 2, -d / 2, np.full_like(d, log_tie)], axis=-1)
    return np.exp(z) / np.exp(z).sum(axis=-1, keepdims=True)


def fit(models, p, weights=None, groups=None, count=None):
    weights = np.ones(len(p)) if weights is None else weights
    groups = np.arange(len(p)) if groups is None else groups
    return bradley_terry.fit(
        np.asarray(models), np.asarray(p, float), weights, groups, count or np.max(models) + 1
    )


def all_pairs(models):
    return np.array([(i, j) for i in range(models) for j in range(models) if i != j])


def test_recovers_the_parameters_that_made_the_votes():
    true = np.array([0.8, 0.1, -0.2, -0.7])
    pairs = np.repeat(all_pairs(4), 30, axis=0)
    fitted = fit(pairs, davidson(true[pairs[:, 0]] - true[pairs[:, 1]], -0.5, 0.3))
    assert fitted.comparable_.all()
    assert fitted.elo_ == pytest.approx(bradley_terry.ELO * true, abs=1e-4)
    assert fitted.advantage_ == pytest.approx(bradley_terry.ELO * 0.3, abs=1e-4)


def test_two_models_without_ties_are_the_log_odds():
    fitted = fit([[0, 1], [0, 1], [1, 0], [1, 0]], np.eye(3)[[0, 1, 0, 1]], np.array([3.0, 1.0, 1.0, 3.0]))
    assert fitted.elo_[0] - fitted.elo_[1] == pytest.approx(400 * np.log10(3))
    assert fitted.advantage_ == pytest.approx(0, abs=1e-6)


def votes(rng, prompts, each, true, shared):
    """Simulated votes with a random effect of the prompt; shared: its share of the variance."""
    groups = np.repeat(np.arange(prompts), each)
    pairs = all_pairs(len(true))[rng.integers(0, len(true) * (len(true) - 1), len(groups))]
    p = davidson(true[pairs[:, 0]] - true[pairs[:, 1]], -0.3, 0.2)
    luck = rng.normal(size=(prompts, len(true)))
    gap = (luck[groups, pairs[:, 0]] - luck[groups, pairs[:, 1]]) / np.sqrt(2)
    drawn = np.sqrt(shared) * gap + np.sqrt(1 - shared) * rng.normal(size=len(groups))
    # the order of the outcomes is b, tie, a; each has its own probability whatever is shared
    rank = norm.cdf(drawn)
    label = np.where(rank < p[:, 1], 1, np.where(rank < p[:, 1] + p[:, 2], 2, 0))
    return pairs, np.eye(3)[label], groups


@pytest.mark.parametrize("shared", [0.0, 0.6])
def test_intervals_have_their_nominal_coverage(shared):
    rng = np.random.default_rng(0)
    true = np.array([0.5, 0.2, 0.0, -0.3, -0.4])
    covered, alone = [], []
    for _ in range(60):
        pairs, p, groups = votes(rng, 200, 4, true, shared)
        fitted = fit(pairs, p, groups=groups)
        covered += list(np.abs(fitted.elo_ - bradley_terry.ELO * true) <= fitted.margin_)
        covered.append(abs(fitted.advantage_ - bradley_terry.ELO * 0.2) <= fitted.advantage_margin_)
        apart = fit(pairs, p)
        alone += list(np.abs(apart.elo_ - bradley_terry.ELO * true) <= apart.margin_)
    assert 0.93 <= np.mean(covered) <= 0.97
    assert shared == 0 or np.mean(alone) < np.mean(covered)


def test_errors_are_those_of_the_cluster_bootstrap():
    rng = np.random.default_rng(3)
    pairs, p, groups = votes(rng, 300, 3, np.array([0.4, 0.0, -0.4]), 0.8)
    fitted = fit(pairs, p, groups=groups)
    draws = []
    for _ in range(150):
        times = np.bincount(rng.integers(0, 300, 300), minlength=300)[groups].astype(float)
        again = fit(pairs[times > 0], p[times > 0], times[times > 0], groups[times > 0])
        draws.append([*again.elo_, again.advantage_])
    margins = [*fitted.margin_, fitted.advantage_margin_]
    assert 1.96 * np.std(draws, axis=0) == pytest.approx(np.array(margins), rel=0.15)


def test_votes_that_only_repeat_others_of_their_group_change_nothing():
    pairs, p, groups = votes(np.random.default_rng(0), 100, 1, np.array([0.4, 0.0, -0.4]), 0)
    once = fit(pairs, p)
    twice = fit(np.repeat(pairs, 2, axis=0), np.repeat(p, 2, axis=0), groups=np.repeat(groups, 2))
    assert twice.elo_ == pytest.approx(once.elo_)
    assert twice.margin_ == pytest.approx(once.margin_)
    assert (twice.prompts_ == once.prompts_).all()


def test_models_are_comparable_where_wins_and_losses_link_them():
    """Ford's condition (1957): comparable sets are the strongly connected components of the graph of wins and ties."""
    rng = np.random.default_rng(0)
    for _ in range(60):
        won = rng.integers(0, 6, (rng.integers(1, 7), 2))
        won = won[won[:, 0] != won[:, 1]]
        if not len(won):
            continue
        pairs = np.concatenate([won, won[:, ::-1]])  # each on either side, so that position is told
        fitted = fit(pairs, np.repeat(np.eye(3)[:2], len(won), axis=0), count=6)
        beaten = np.zeros((6, 6))
        beaten[won[:, 0], won[:, 1]] = 1
        _, part = connected_components(beaten, connection="strong")
        sizes = np.bincount(part)
        assert fitted.comparable_.sum() == (sizes.max() if sizes.max() > 1 else 0)
        assert len(set(part[fitted.comparable_])) <= 1


def test_models_beside_one_that_won_all_are_where_the_likelihood_tends_to():
    pairs = np.array([[0, 1], [1, 0], [1, 2], [2, 1], [0, 2], [2, 0], [3, 0], [1, 3], [0, 1], [2, 1]])
    label = np.array([0, 0, 0, 0, 1, 2, 0, 1, 2, 1])
    fitted = fit(pairs, np.eye(3)[label])
    assert fitted.comparable_.tolist() == [True, True, True, False]
    assert np.isnan(fitted.elo_[3])

    def loss(theta):
        p = davidson(theta[pairs[:, 0]] - theta[pairs[:, 1]], theta[4], theta[5])
        return -np.log(p[np.arange(len(label)), label]).sum()

    theta = minimize(loss, np.array([0, 0, 0, 15.0, 0, 0]), method="BFGS", tol=1e-8).x
    assert fitted.elo_[:3] == pytest.approx(bradley_terry.ELO * (theta[:3] - theta[:3].mean()), abs=0.5)
    assert fitted.advantage_ == pytest.approx(bradley_terry.ELO * theta[5], abs=0.5)


def test_strength_and_position_of_a_model_that_is_always_first():
    rng = np.random.default_rng(0)
    pairs = np.column_stack([np.zeros(200, int), rng.integers(1, 4, 200)])
    fitted = fit(pairs, np.eye(3)[rng.integers(0, 3, 200)])
    assert fitted.comparable_.tolist() == [False, True, True, True]
    assert np.isnan(fitted.advantage_)
    others = fit(
        np.concatenate([pairs, [[1, 2], [2, 1], [1, 2], [2, 1]]]),
        np.eye(3)[[*rng.integers(0, 3, 200), 0, 1, 1, 0]],
    )
    assert others.comparable_.all(), "votes among the others tell what position is worth"
    assert np.isfinite(others.advantage_)


def test_with_position_deciding_every_vote_nothing_is_estimable():
    fitted = fit(np.repeat(all_pairs(3), 10, axis=0), np.tile([1.0, 0, 0], (60, 1)))
    assert not fitted.comparable_.any()
    assert np.isnan(fitted.advantage_)


def test_strengths_are_not_estimable_from_ties_alone():
    fitted = fit(np.repeat(all_pairs(3), 10, axis=0), np.tile([0, 0, 1.0], (60, 1)))
    assert not fitted.comparable_.any()
