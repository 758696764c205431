import math

import numpy as np
import pytest

from tiebreak.data_card import label_statistics
from tiebreak.votes.schema import swap_answers


def test_length_bins_hold_every_vote_once():
    rng = np.random.default_rng(0)
    lengths, groups, ones = rng.integers(0, 50, (500, 2)), np.arange(500), np.ones(500)
    p = np.eye(3)[rng.integers(0, 3, 500)]
    bins = label_statistics.length_bins(p, lengths, ones, groups)
    assert sum(b.a_wins.votes for b in bins) == round(p[:, :2].sum())
    turned, back = swap_answers(p), lengths[:, ::-1]
    mirrored = label_statistics.length_bins(turned, back, ones, groups)
    assert label_statistics.longer_wins(p, lengths, ones, groups) == label_statistics.longer_wins(
        turned, back, ones, groups
    )
    assert bins[0].a_wins.value == pytest.approx(1 - mirrored[-1].a_wins.value, abs=0.05)


def test_votes_on_one_pair_count_as_one():
    pair = np.array([7, 7, 7, 7, 9], np.uint64)
    p = np.eye(3)[[0, 0, 0, 1, 1]]
    weights = label_statistics.pair_weights(pair)
    assert weights.tolist() == [0.25, 0.25, 0.25, 0.25, 1]
    found = label_statistics.a_wins(p, weights, np.arange(5))
    assert (found.value, found.votes) == (0.375, 2)


def test_no_votes_at_all():
    nothing = np.zeros((0, 3))
    found = label_statistics.disagreement(
        np.zeros(0, np.uint64), np.zeros(0, bool), nothing, np.zeros(0, np.int64)
    )
    assert (found.repeated, found.noise, found.noise_low) == (0, None, None)
    assert math.isnan(label_statistics.a_wins(nothing, np.zeros(0), np.zeros(0, np.int64)).value)


def entropy(p):
    return -(p * np.log(np.maximum(p, 1e-300))).sum(axis=-1)


def test_the_least_entropy_is_a_lower_bound():
    p = np.random.default_rng(0).dirichlet([0.3, 0.3, 0.3], 2000)
    least = [label_statistics.least_entropy(agreement) for agreement in (p**2).sum(axis=1)]
    assert (entropy(p) >= np.array(least) - 1e-12).all()
    for equal in (1, 2, 3):
        assert label_statistics.least_entropy(1 / equal) == pytest.approx(math.log(equal))


def test_noise_is_estimated_from_two_votes_a_pair():
    rng = np.random.default_rng(0)
    pairs = 20_000
    p = np.where(rng.random((pairs, 1)) < 0.5, [[0.5, 0.5, 0.0]], [[1.0, 0.0, 0.0]])
    labels = (rng.random((pairs, 2, 1)) > p.cumsum(axis=1)[:, None, :2]).sum(axis=2).ravel()
    pair = np.repeat(np.arange(pairs), 2)
    found = label_statistics.disagreement(
        pair.astype(np.uint64), np.zeros(2 * pairs, bool), np.eye(3)[labels], pair
    )
    assert found.agreement.value == pytest.approx((p**2).sum(axis=1).mean(), abs=0.01)
    assert found.noise == pytest.approx(entropy(p).mean(), abs=0.015), "there the bound is reached"
    assert found.noise_low < found.noise
