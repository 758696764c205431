import numpy as np
import pytest

from tiebreak.data import strengths


def davidson(gap, log_tie, advantage):
    z = np.array([gap / 2 + advantage / 2, -gap / 2 - advantage / 2, log_tie])
    return np.exp(z) / np.exp(z).sum()


def expected_counts(true, log_tie, advantage, votes):
    pairs = [(i, j) for i in range(len(true)) for j in range(len(true)) if i != j]
    counts = [votes * davidson(true[i] - true[j], log_tie, advantage) for i, j in pairs]
    return *map(np.array, zip(*pairs, strict=True)), np.array(counts)


def test_recovers_the_parameters_that_made_the_counts():
    true = np.array([0.8, 0.1, -0.2, -0.7])
    fitted = strengths.fit(*expected_counts(true, log_tie=-0.5, advantage=0.3, votes=1e6), 4)
    assert fitted.elo_ == pytest.approx(strengths.ELO * true, abs=0.1)
    assert fitted.advantage_ == pytest.approx(strengths.ELO * 0.3, abs=0.1)


def test_two_models_without_ties_are_the_log_odds():
    fitted = strengths.fit(np.array([0, 1]), np.array([1, 0]), np.array([[3e4, 1e4, 0], [1e4, 3e4, 0]]), 2)
    assert fitted.elo_[0] - fitted.elo_[1] == pytest.approx(400 * np.log10(3), abs=0.5)
    assert fitted.advantage_ == pytest.approx(0, abs=1e-6)


def test_errors_cover_the_truth_as_often_as_they_say():
    rng = np.random.default_rng(0)
    true = np.array([0.5, 0.2, 0.0, -0.3, -0.4])
    a, b, mean = expected_counts(true, log_tie=-0.5, advantage=0.2, votes=1.0)
    misses = []
    for _ in range(200):
        counts = np.stack([rng.multinomial(60, p) for p in mean]).astype(float)
        fitted = strengths.fit(a, b, counts, 5)
        misses += list((fitted.elo_ - strengths.ELO * true) / fitted.error_)
        misses.append((fitted.advantage_ - strengths.ELO * 0.2) / fitted.advantage_error_)
    assert np.std(misses) == pytest.approx(1, abs=0.1)


def test_models_that_never_lost_or_never_met_stay_finite():
    a, b = np.array([0, 1, 2, 4]), np.array([1, 0, 3, 4])
    fitted = strengths.fit(a, b, np.array([[9.0, 0, 0], [0, 9, 0], [0, 0, 5], [1, 1, 1]]), 5)
    assert np.isfinite(fitted.elo_).all()
    assert fitted.elo_[0] > fitted.elo_[1] + 400
    assert fitted.elo_[2] == pytest.approx(fitted.elo_[3])
