"""Acquisition: disagreement as mutual information by hand, and draws in proportion to it."""

import numpy as np
import pytest
from scipy.stats import entropy as scipy_entropy
from sklearn.metrics import mutual_info_score

from tiebreak.stats.acquisition import disagreement, entropy, priority

GENERATOR = np.random.default_rng(0)
P_NMC = GENERATOR.dirichlet([0.5, 0.7, 0.4], size=(200, 3))


def test_entropy_is_scipys() -> None:
    np.testing.assert_allclose(entropy(P_NMC), scipy_entropy(P_NMC, axis=2), atol=1e-12)
    assert entropy(np.array([1.0, 0.0, 0.0])) == 0


def test_disagreement_is_the_mutual_information_of_vote_and_member() -> None:
    for p_MC, found in zip(P_NMC, disagreement(P_NMC), strict=True):
        joint_MC = np.round(p_MC * 1e9).astype(np.int64)
        assert found == pytest.approx(mutual_info_score(None, None, contingency=joint_MC), abs=1e-6)


def test_its_bounds() -> None:
    same = np.repeat(P_NMC[:, :1], 4, axis=1)
    assert disagreement(same) == pytest.approx(0, abs=1e-12)
    assert (disagreement(same) >= 0).all()
    sure = np.eye(3)[None]
    assert disagreement(sure) == pytest.approx(np.log(3))
    even = np.full((1, 2, 3), 1 / 3)
    assert disagreement(even) == pytest.approx(0, abs=1e-12), "what both call even says nothing"


def test_it_is_the_same_with_the_answers_exchanged_and_members_in_any_order() -> None:
    np.testing.assert_allclose(disagreement(P_NMC[:, ::-1][:, :, [1, 0, 2]]), disagreement(P_NMC), atol=1e-15)


def test_draws_are_in_proportion_without_replacement() -> None:
    """The first is drawn by shares, the second by shares of what is left (Plackett and Luce)."""
    told_N, random = np.array([0.1, 0.2, 0.4, 0.0]), np.random.default_rng(1)
    orders = np.array([np.argsort(-priority(told_N, random)) for _ in range(20_000)])
    first = np.bincount(orders[:, 0], minlength=4) / len(orders)
    np.testing.assert_allclose(first, told_N / 0.7, atol=0.015)
    after_2 = orders[orders[:, 0] == 2, 1]
    np.testing.assert_allclose(
        np.bincount(after_2, minlength=4) / len(after_2), [1 / 3, 2 / 3, 0, 0], atol=0.02
    )
    assert (orders[:, 3] == 3).all(), "what all agree on comes last"
