"""Davidson strengths against scipy's optimiser on the same likelihood, brute force and closed forms."""

import itertools

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import logsumexp

from tiebreak.stats import davidson
from tiebreak.stats.davidson import fit

PRIOR = 1e-4
"""Enough for the optimiser that serves as a reference; of the default it does not find the maximum."""


def loss(theta, pairs, p):
    """The negative log-likelihood with the prior, written out."""
    strengths, log_tie = theta[:-1], theta[-1]
    total = PRIOR / 2 * (theta**2).sum()
    for (a, b), (p_a, p_b, p_tie) in zip(pairs, p, strict=True):
        z = np.array([strengths[a], strengths[b], log_tie + (strengths[a] + strengths[b]) / 2])
        total -= (np.array([p_a, p_b, p_tie]) * (z - logsumexp(z))).sum()
    return total


def all_pairs(rivals):
    return np.array(list(itertools.combinations(range(rivals), 2)))


@pytest.mark.parametrize("rivals", [2, 3, 6])
@pytest.mark.parametrize("concentration", [0.02, 1.0, 20.0])
def test_is_the_maximum_that_scipy_finds(rivals, concentration):
    """Of probabilities that are nearly certain, of any, and of nearly even ones, which no strengths fit exactly."""
    rng = np.random.default_rng(rivals)
    pairs = all_pairs(rivals)
    p = rng.dirichlet([concentration] * 3, len(pairs))
    fitted = fit(pairs, p, rivals, PRIOR)
    best = minimize(loss, np.zeros(rivals + 1), (pairs, p), method="BFGS", options={"gtol": 1e-9}).x
    found = np.append(fitted.strengths_, fitted.log_tie_)
    assert found == pytest.approx(best, abs=1e-4)
    assert loss(found, pairs, p) <= loss(best, pairs, p) + 1e-9


def test_is_the_best_of_a_grid():
    pairs, p = all_pairs(2), np.array([[0.6, 0.1, 0.3]])
    fitted = fit(pairs, p, 2, PRIOR)
    grid = [np.array([s, -s, v]) for s in np.linspace(0, 2, 41) for v in np.linspace(-1, 1, 41)]
    best = min(grid, key=lambda theta: loss(theta, pairs, p))
    assert [*fitted.strengths_, fitted.log_tie_] == pytest.approx(best, abs=0.05)


def test_recovers_the_strengths_that_made_the_probabilities():
    true = np.array([1.2, 0.3, -0.5, -1.0])
    made = davidson.Strengths(true, -0.7, np.eye(5))
    pairs = all_pairs(4)
    p = made.probabilities(pairs)
    assert np.log(p[:, 0] / p[:, 1]) == pytest.approx(true[pairs[:, 0]] - true[pairs[:, 1]])
    assert p[:, 2] == pytest.approx(np.exp(-0.7) * np.sqrt(p[:, 0] * p[:, 1]))
    fitted = fit(pairs, p, 4)
    assert fitted.strengths_ == pytest.approx(true, abs=1e-6)
    assert fitted.log_tie_ == pytest.approx(-0.7, abs=1e-6)


@pytest.mark.parametrize("least", [1e-2, 1e-4, 1e-6])
def test_two_rivals_have_the_log_odds_of_their_pair(least):
    """Also of a judge that is nearly sure: the prior must not pull its margin in."""
    p = np.array([[1 - 3 * least, least, 2 * least]])
    fitted = fit(all_pairs(2), p, 2)
    assert np.subtract(*fitted.strengths_) == pytest.approx(np.log(p[0, 0] / p[0, 1]), abs=0.05)
    assert fitted.probabilities(all_pairs(2)) == pytest.approx(p, rel=0.05)


@pytest.mark.parametrize("sure", [[1.0, 0, 0], [0, 1.0, 0], [0, 0, 1.0]])
def test_exists_where_the_likelihood_has_no_maximum(sure):
    pairs = all_pairs(5)
    fitted = fit(pairs, np.tile(sure, (len(pairs), 1)), 5)
    assert np.isfinite([*fitted.strengths_, fitted.log_tie_]).all()
    assert fitted.strengths_.sum() == pytest.approx(0, abs=1e-9)
    expected = {0: [0, 1, 2, 3, 4], 1: [4, 3, 2, 1, 0]}.get(int(np.argmax(sure)))
    if expected:
        assert np.argsort(-fitted.strengths_).tolist() == expected
    else:
        assert fitted.strengths_ == pytest.approx(np.zeros(5), abs=1e-9)


def test_rivals_that_were_never_compared_are_even():
    fitted = fit(np.array([[0, 1]]), np.array([[0.8, 0.1, 0.1]]), 4, PRIOR)
    assert fitted.strengths_[2:] == pytest.approx([0, 0], abs=1e-9)


def test_the_side_does_not_matter():
    rng = np.random.default_rng(1)
    pairs, p = all_pairs(5), rng.dirichlet([1, 1, 1], 10)
    turned = fit(pairs[:, ::-1], p[:, [1, 0, 2]], 5)
    assert turned.strengths_ == pytest.approx(fit(pairs, p, 5).strengths_, abs=1e-8)


def test_the_variance_is_that_of_the_numerical_curvature():
    rng = np.random.default_rng(2)
    pairs, p = all_pairs(4), rng.dirichlet([2, 2, 2], 6)
    fitted = fit(pairs, p, 4, PRIOR)
    theta, step = np.append(fitted.strengths_, fitted.log_tie_), 1e-4
    unit = np.eye(5) * step
    hessian = np.array(
        [
            [
                sum(
                    sign * loss(theta + unit[i] * x + unit[j] * y, pairs, p)
                    for sign, x, y in ((1, 1, 1), (-1, 1, -1), (-1, -1, 1), (1, -1, -1))
                )
                / (4 * step**2)
                for j in range(5)
            ]
            for i in range(5)
        ]
    )
    inverse = np.linalg.inv(hessian)
    expected = [inverse[a, a] + inverse[b, b] - 2 * inverse[a, b] for a, b in pairs]
    assert fitted.gap_variance(pairs) == pytest.approx(expected, rel=1e-3)
