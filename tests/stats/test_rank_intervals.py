import numpy as np
import pytest
from scipy.stats import studentized_range, t

from tiebreak.stats.rank_intervals import critical_value, difference_errors, rank_intervals


def test_for_two_models_it_is_students_t_and_for_equal_ones_the_studentised_range():
    assert critical_value(np.eye(2), 7) == pytest.approx(t.ppf(0.975, 7), rel=0.05)
    assert critical_value(np.eye(5)) == pytest.approx(
        studentized_range.ppf(0.95, 5, np.inf) / np.sqrt(2), rel=0.02
    )


@pytest.mark.parametrize("related", [0.0, 0.3, 3.0])
def test_the_pairs_that_are_left_out_are_never_the_largest(related):
    random = np.random.default_rng(1)
    root = related * random.normal(size=(150, 3))
    covariance = np.diag(random.uniform(0, 1, 150)) + root @ root.T
    covariance[:, 7] = covariance[7] = 0.0  # a model without an error
    covariance[8, :] = covariance[9, :]  # and two that are surely equal
    covariance[:, 8] = covariance[:, 9]
    values, vectors = np.linalg.eigh(covariance)
    draws = np.random.default_rng(0).standard_normal((4000, 150)) @ (vectors * np.sqrt(values.clip(0))).T
    a, b = np.triu_indices(150, 1)
    error = difference_errors(covariance)[a, b]
    a, b, error = a[error > 0], b[error > 0], error[error > 0]
    largest = [(np.abs(draw[a] - draw[b]) / error).max() for draw in draws]
    assert critical_value(covariance) == pytest.approx(np.quantile(largest, 0.95), rel=1e-9)


def test_ranks_that_are_sure_and_ranks_that_are_not():
    best, worst = rank_intervals(np.array([5.0, 0.1, 0.0, -5.0]), np.eye(4) * 0.1)
    assert best.tolist() == [1, 2, 2, 4]
    assert worst.tolist() == [1, 3, 3, 4]


def test_models_that_are_surely_equal_share_their_ranks():
    best, worst = rank_intervals(np.zeros(3), np.zeros((3, 3)))
    assert best.tolist() == [1, 1, 1]
    assert worst.tolist() == [3, 3, 3]


@pytest.mark.parametrize("spread", [0.0, 1.0])
def test_all_ranks_hold_together(spread):
    random = np.random.default_rng(0)
    true = spread * np.linspace(1, -1, 6)
    root = random.normal(size=(6, 6)) / 3
    covariance = root @ root.T
    ranks = np.arange(1, 7)
    held = 0
    for _ in range(300):
        best, worst = rank_intervals(true + root @ random.normal(size=6), covariance)
        held += bool(((best <= ranks) & (ranks <= worst)).all()) if spread else bool((best == 1).all())
    assert held / 300 >= 0.93
