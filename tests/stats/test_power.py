import numpy as np
import pytest

from tiebreak.recipe.schema import Split
from tiebreak.stats import power
from tiebreak.stats.metrics import Bootstrap
from tiebreak.stats.power import CALIBRATION_WANTED, LOCKBOX_WANTED, SPREAD, shortfalls, smallest_gain

SPLIT = Split(lockbox_share=0.05, calibration_share=0.1)


def advice(split: Split = SPLIT, votes=1000, lockbox=50, prompts=50, calibration=100) -> dict[str, str]:
    return dict(shortfalls(split, votes, lockbox, prompts, calibration))


@pytest.mark.parametrize("votes", [40, 200])
def test_the_smallest_gain_is_found_in_eight_of_ten_lockboxes(votes):
    random = np.random.default_rng(0)
    found = 0
    for _ in range(400):
        change = random.normal(-smallest_gain(votes), SPREAD, size=(votes, 1))
        (estimate,) = Bootstrap(100).estimates(change)
        found += estimate.high < 0
    assert found / 400 == pytest.approx(0.8, abs=0.06)


def test_a_gain_of_a_tenth_takes_the_votes_that_are_wanted():
    assert smallest_gain(LOCKBOX_WANTED) == pytest.approx(0.1, abs=0.001)
    assert power.loss_of_calibrating(CALIBRATION_WANTED) < 0.005


def test_small_sides_say_what_they_cannot_show_and_how_many_votes_would():
    found = advice(lockbox=50, calibration=22)
    assert f"50 votes show with 80 % power that a judge is better than the class shares if it gains {smallest_gain(50):.2f}" in found["lockbox"]  # fmt: skip
    assert found["lockbox"].endswith("give about 4,000 votes, or --set split.lockbox_share=0.2")
    assert "fitted on 22 votes loses about 0.016 of log loss" in found["calibration side"]
    assert found["calibration side"].endswith("give about 1,000 votes")


@pytest.mark.parametrize("prompts", [0, 29])
def test_fewer_prompts_than_any_interval_takes(prompts):
    found = advice(votes=5000, lockbox=250, prompts=prompts)
    assert f"250 votes on {prompts} prompts: fewer than 30 prompts allow no interval" in found["lockbox"]
    assert found["lockbox"].endswith("give about 4,000 votes")
    assert "0 votes on 0 prompts" in advice(votes=5, lockbox=0, prompts=0)["lockbox"]


def test_enough_votes_and_sides_that_are_not_wanted_are_passed_over():
    assert advice(votes=4000, lockbox=200, prompts=30, calibration=400) == {}
    none = Split(lockbox_share=0, calibration_share=0)
    assert advice(none, votes=30, lockbox=0, prompts=0, calibration=0) == {}


@pytest.mark.parametrize(("votes", "share"), [(1000, 0.2), (690, 0.29), (300, None), (10, None)])
def test_a_larger_share_is_advised_where_it_is_enough_and_not_half_of_the_votes(votes, share):
    text = advice(votes=votes, lockbox=30, prompts=30)["lockbox"]
    assert (f"--set split.lockbox_share={share}" in text) == (share is not None)
    assert ("--set" in text) == (share is not None)
