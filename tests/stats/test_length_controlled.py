import runpy
from pathlib import Path

import numpy as np
import pytest
from scipy.special import expit

from tiebreak.stats.clustered import effective_groups, t_quantile
from tiebreak.stats.length_controlled import _fit, win_rate

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


def test_errors_are_those_of_the_jackknife():
    """Refitted without each group, up to the second Newton step."""
    random = np.random.default_rng(1)
    groups = np.repeat(np.arange(60), 1 + np.arange(60) % 3)
    length = random.gamma(4, 100, size=(2, len(groups)))
    y = (random.random(len(groups)) < 0.6).astype(float)
    found = win_rate(y, *length, groups)
    difference = length[0] - length[1]
    x = np.column_stack([np.ones(len(y)), np.tanh(difference / difference.std(ddof=1))])
    whole = _fit(x, y, np.zeros(2))[0]
    without = np.array([_fit(x[groups != g], y[groups != g], np.zeros(2))[0] for g in range(60)])
    error = np.sqrt(((without - whole) ** 2).sum() * 59 / 60)
    half = (np.log(found.high / (1 - found.high)) - np.log(found.low / (1 - found.low))) / 2
    assert half == pytest.approx(error * t_quantile(effective_groups(np.ones(len(y)), groups)), rel=0.02)


@pytest.mark.parametrize("kind", ["perfect", "biased", "adversarial"])
def test_with_a_judge_it_holds_whatever_the_judge_says(kind):
    random = np.random.default_rng(2)
    judges = {
        "perfect": lambda z: expit(z),
        "biased": lambda z: expit(z + 1.5),
        "adversarial": lambda z: expit(-z),
    }

    def made(rows):
        length = random.gamma(4, 100, size=(2, rows)) * [[1.3], [1]]
        return length, 1.5 + np.tanh((length[0] - length[1]) / 250) + 2 * random.normal(size=rows)

    length, z = made(200_000)
    true = win_rate(expit(z), *length, np.arange(200_000)).value
    held, width = [], []
    for _ in range(120):
        length, z = made(400)
        y = (random.random(400) < expit(z)).astype(float)
        y[100:] = np.nan
        found = win_rate(y, *length, np.arange(400), judges[kind](z))
        alone = win_rate(y[:100], *length[:, :100], np.arange(100))
        held.append(found.low <= true <= found.high)
        width.append((found.high - found.low) / (alone.high - alone.low))
    assert 0.91 <= np.mean(held) <= 0.985
    assert np.mean(width) <= (1.02 if kind == "adversarial" else 0.93)


def test_there_is_no_interval_where_one_group_tells_what_length_does():
    y, length = np.tile([1.0, 0.0, 0.5], 20), np.where(np.arange(60) == 8, 90.0, 9.0)
    found = win_rate(y, length, np.full(60, 9.0), np.arange(60))
    assert not np.isnan(found.value)
    assert np.isnan(found.low)
