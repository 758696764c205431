import runpy
from pathlib import Path

import numpy as np
import pytest

from tiebreak.stats.length_controlled import win_rate

PEERS = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "compare_peers.py"))
ALPACA_EVAL = 0.6868176765075863
"""By alpaca-eval 0.6.6's own fit, without instruction difficulty and penalty: python benchmarks/compare_peers.py."""


def test_it_is_that_of_alpaca_eval():
    data = PEERS["votes"]()
    found = win_rate(data["p"], *data["length"].T, np.arange(len(data["p"])))
    assert found.value == pytest.approx(ALPACA_EVAL, abs=1e-5)


def test_a_longer_answer_that_wins_by_its_length_is_no_better():
    random = np.random.default_rng(0)
    held = 0
    for _ in range(200):
        length = random.gamma(4, 100, size=(2, 400)) * [[2], [1]]
        difference = length[0] - length[1]
        p = 1 / (1 + np.exp(-2 * np.tanh(difference / difference.std(ddof=1))))
        found = win_rate((random.random(400) < p).astype(float), *length, np.arange(400))
        held += found.low <= 0.5 <= found.high
    assert 0.92 <= held / 200 <= 0.98


def test_equal_lengths_leave_the_win_rate():
    y = np.repeat([1.0, 0.5, 0.0], [50, 20, 30])
    found = win_rate(y, np.full(100, 9.0), np.full(100, 9.0), np.arange(100))
    assert found.value == pytest.approx(0.6)
    assert (found.low < 0.6, found.high > 0.6, found.coefficient) == (True, True, 0)
    assert np.isnan(win_rate(y, np.full(100, 9.0), np.full(100, 9.0), np.arange(100) % 19).low)


def test_where_one_side_always_wins_or_is_always_longer_there_is_none():
    y, length = np.tile([1.0, 0.5, 0.0], 20), np.arange(60.0)
    assert not np.isnan(win_rate(y, length, length[::-1], np.arange(60)).value)
    assert np.isnan(win_rate(y, length + 1, np.zeros(60), np.arange(60)).value)
    assert np.isnan(win_rate(y, np.zeros(60), length + 1, np.arange(60)).value)
    assert np.isnan(win_rate(np.ones(50), np.arange(50.0), np.zeros(50), np.arange(50)).value)
