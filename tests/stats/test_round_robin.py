import numpy as np
import pytest

from tiebreak.stats.round_robin import pairs, scores


def test_a_score_is_the_mean_win_rate_over_the_others_of_its_list():
    random = np.random.default_rng(0)
    counts = [4, 1, 3]
    rate_NN = np.full((8, 8), np.nan)
    found = pairs(counts)
    rate_P = random.random(len(found))
    for (a, b), rate in zip(found.tolist(), rate_P, strict=True):
        rate_NN[a, b], rate_NN[b, a] = rate, 1 - rate
    assert len(found) == 6 + 0 + 3
    expected = [np.nanmean(row) if np.isfinite(row).any() else 0.5 for row in rate_NN]
    assert scores(rate_P, counts) == pytest.approx(expected)


def test_lists_without_pairs():
    assert pairs([1, 1]).shape == (0, 2)
    assert scores(np.empty(0), [1, 1]).tolist() == [0.5, 0.5]
