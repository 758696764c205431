"""Prediction-powered means: as ppi_py has them, right whatever the judge says, and never wider than the votes alone."""

import runpy
from pathlib import Path

import numpy as np
import pytest
from made_up_votes import JUDGES, all_pairs, drawn, probabilities
from scipy.special import expit
from scipy.stats import norm

from tiebreak.stats import clustered, ppi

PEERS = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "compare_peers.py"))
MEAN, INTERVAL = 0.6279186964944896, (0.5917496163330522, 0.664087776655927)
TUNED_INTERVAL = (0.5923587912665953, 0.6643078754000715)
"""By ppi-python 0.2.3: python benchmarks/compare_peers.py."""


def raw_interval(found: ppi.Means) -> np.ndarray:
    """Without the correction for the number of groups, by the normal distribution, as ppi_py has it."""
    error = found.error_K[0] * np.sqrt((found.votes - 1) / found.votes)
    return found.value_K[0] + norm.ppf(0.975) * error * np.array([-1, 1])


def given(repeated: bool = False):
    data = PEERS["votes"]()
    rows = len(data["won"])
    f = np.tile(data["p"][: rows // 4], 4) if repeated else data["p"]
    y = np.where(np.arange(rows) < rows // 4, data["won"], np.nan)
    return y[:, None], f[:, None], np.arange(rows)


def test_at_a_weight_it_is_that_of_ppi_py():
    found = ppi.means(*given(), weight=0.7 * 4 / 3)  # its f are of rows without votes, ours of all
    assert found.value_K == pytest.approx([MEAN], abs=1e-9)
    assert raw_interval(found) == pytest.approx(INTERVAL, abs=1e-6)


def test_the_tuned_weight_is_that_of_ppi_py_where_the_variances_are_equal(monkeypatch):
    monkeypatch.setattr(
        ppi, "residuals", lambda a, b: a - ppi.power_tuned(a, b) * b
    )  # as ppi_py: no jackknife
    assert raw_interval(ppi.means(*given(repeated=True))) == pytest.approx(TUNED_INTERVAL, abs=1e-6)


def test_residuals_are_by_the_weight_of_the_other_groups():
    random = np.random.default_rng(0)
    a, b = random.normal(size=(2, 12, 3))
    b += a
    expected = [a[g] - ppi.power_tuned(np.delete(a, g, 0), np.delete(b, g, 0)) * b[g] for g in range(12)]
    assert ppi.residuals(a, b) == pytest.approx(np.array(expected))


def test_without_a_judge_the_interval_is_wilsons():
    y = np.repeat([1.0, 0.0], [60, 40])[:, None]
    found = ppi.means(y, np.zeros_like(y), np.arange(100))
    share = clustered.share(y[:, 0], np.ones(100), np.arange(100))
    assert found.weight == 0
    assert found.effective_votes == pytest.approx(100)
    assert found.interval() == pytest.approx(
        (share.low, share.high), abs=1e-3
    )  # which has n votes, not n - 1


def test_a_judge_that_has_seen_all_and_knows_all_is_worth_every_judged_row():
    random = np.random.default_rng(1)
    p = random.random(4000)
    y = (random.random(4000) < p).astype(float)
    voted = np.where(np.arange(4000) < 200, y, np.nan)
    found = ppi.means(voted[:, None], y[:, None], np.arange(4000))
    assert found.weight == pytest.approx(1, abs=0.01)
    assert found.value_K[0] == pytest.approx(y.mean(), abs=1e-4)
    assert found.effective_votes == pytest.approx(4000, rel=0.1)
    assert found.votes_needed(0.01) == np.inf, "more votes do not help, more judged rows do"


def test_a_judge_of_the_opposite_opinion_is_left_out():
    y, f, groups = given()
    found = ppi.means(y, 1 - f, groups)
    alone = ppi.means(y, np.zeros_like(f), groups)
    assert found.weight == 0
    assert found.value_K == pytest.approx(alone.value_K)
    assert found.interval() == pytest.approx(alone.interval())


def test_few_prompts_have_no_interval():
    y = np.tile([1.0, 0.0], 50)[:, None]
    assert np.isnan(ppi.means(y, y * 0, np.arange(100) % 19).interval()).all()
    assert np.isfinite(ppi.means(y, y * 0, np.arange(100) % 20).interval()).all()
    with pytest.raises(ValueError, match="no votes"):
        ppi.means(y * np.nan, y * 0, np.arange(100))


def test_as_many_votes_as_it_says_give_the_width_that_was_wanted():
    random = np.random.default_rng(2)
    gap = random.normal(size=20_000)
    y, f = drawn(random, probabilities(gap))[:, :1], probabilities(gap)[:, :1]
    rows = np.arange(len(y))[:, None]

    def with_votes(votes: int) -> ppi.Means:
        return ppi.means(np.where(rows < votes, y, np.nan), f, rows[:, 0])

    needed = with_votes(2000).votes_needed(0.015)
    low, high = with_votes(round(needed)).interval()
    assert (high - low) / 2 == pytest.approx(0.015, rel=0.03)


@pytest.mark.parametrize("judge", JUDGES)
def test_intervals_hold_whatever_the_judge_says(judge):
    """On 150 votes of 50 prompts; more of it in benchmarks/compare.py."""
    random = np.random.default_rng(3)
    strengths = np.array([0.4, 0.0, -0.4])
    truth = drawn(random, probabilities(all_pairs(random, strengths, 300_000)[1]))[:, 0].mean()
    covered = widths = 0
    for _ in range(400):
        models, gap, groups = all_pairs(random, strengths, 300)
        y = np.where((groups < 50)[:, None], drawn(random, probabilities(gap)), np.nan)[:, :1]
        f = JUDGES[judge](gap, models, random)[:, :1]
        low, high = ppi.means(y, f, groups).interval()
        alone_low, alone_high = ppi.means(y, 0 * f, groups).interval()
        covered += low <= truth <= high
        widths += (high - low) / (alone_high - alone_low) / 400
    assert 0.925 <= covered / 400 <= 0.975
    assert widths <= 1.005


@pytest.mark.parametrize(("confidence", "noise"), [(5.0, 1.0), (1.0, 0.0)])
def test_near_0_and_1_intervals_are_no_wider_than_by_the_votes_alone(confidence, noise):
    """Of a win rate of 2 % by 100 votes, a judge who is too sure made them wider by a fifth and more."""
    random = np.random.default_rng(4)
    widths, covered = [], []
    for _ in range(300):
        z = random.normal(-5.05, 1.5, 300)
        y = np.where(np.arange(300) < 100, random.random(300) < expit(z), np.nan)[:, None]
        f = expit(confidence * z + noise * random.normal(size=300))[:, None]
        (low, high), (alone_low, alone_high) = (
            ppi.means(y, judge, np.arange(300)).interval() for judge in (f, 0 * f)
        )
        widths.append((high - low) / (alone_high - alone_low))
        covered.append(low <= 0.0175 <= high)
    assert np.mean(widths) <= 1.005
    assert np.mean(covered) > 0.925


def test_one_vote_for_a_side_is_too_few_to_tune_a_weight():
    """The judge who knows that one vote alone would say that there is none."""
    y = np.where(np.arange(600) < 200, 0.0, np.nan)
    y[0] = 1
    f = np.where(y == 1, 0.9, 0.05)[:, None]
    found, alone = (ppi.means(y[:, None], judge, np.arange(600)) for judge in (f, 0 * f))
    assert (found.weight, found.interval()) == (0, alone.interval())
