"""Tests of the expected gain from twice the votes, on curves of a known law."""

import numpy as np
import pytest

from tiebreak.stats.learning_curve import EXPONENTS, Point, expected_gain, learning_curve
from tiebreak.stats.metrics import Bootstrap, Estimate

pytestmark = pytest.mark.slow


def law(votes: int, power: float) -> float:
    return float(0.9 + 2 * votes**-power)


def doubled(power: float) -> tuple[float, float]:
    """The gain of two doublings to 4,000 votes together, and that of the next."""
    return law(1000, power) - law(4000, power), law(4000, power) - law(8000, power)


def test_a_square_root_law_is_continued_exactly() -> None:
    before, after = doubled(0.5)
    assert expected_gain(Estimate(before)) == Estimate(pytest.approx(after))


@pytest.mark.parametrize("power", EXPONENTS)
def test_the_range_reaches_from_the_slowest_law_to_the_fastest(power: float) -> None:
    before, after = doubled(power)
    found = expected_gain(Estimate(before, before, before))
    assert found.low * (1 - 1e-9) <= after <= found.high * (1 + 1e-9)
    if power != 0.5:
        assert after == pytest.approx(found.low if power == 1 else found.high)


def test_a_loss_that_rose_may_rise_more() -> None:
    found = expected_gain(Estimate(-0.01, -0.03, 0.01))
    assert found.low < -0.01 < found.value < 0 < found.high
    assert found.low == pytest.approx(-found.high * 3)


@pytest.mark.parametrize("power", [0.3, 0.5, 0.8])
def test_the_range_holds_the_next_gain(power: float) -> None:
    """Coverage over 200 samples of 100 prompts with three votes each, with losses correlated by prompt and model."""
    random = np.random.default_rng(0)
    groups, sizes = np.repeat(np.arange(100), 3), (4000, 2000, 1000)
    held, (_, true) = 0, doubled(power)
    for _ in range(200):
        common = random.normal(scale=0.5, size=300) + random.normal(scale=0.3, size=100)[groups]
        own = [law(n, power) + common + random.normal(scale=0.1, size=100)[groups] for n in sizes]
        points = [Point(n, loss[None]) for n, loss in zip(sizes, own, strict=True)]
        gain = learning_curve(points, groups, Bootstrap(100))["gain"]
        held += gain["low"] <= true <= gain["high"]
    assert held >= 190


def test_rows_are_means_over_draws_with_paired_changes() -> None:
    random = np.random.default_rng(1)
    all_votes, half, quarter = (random.uniform(0.5, 1.5, size=(draws, 60)) for draws in (1, 2, 2))
    groups = np.arange(60) // 2
    found = learning_curve(
        [Point(400, all_votes), Point(200, half), Point(100, quarter)], groups, Bootstrap(50)
    )
    assert [row["votes"] for row in found["rows"]] == [400, 200, 100]
    assert [row["log_loss"]["value"] for row in found["rows"]] == pytest.approx(
        [all_votes.mean(), half.mean(), quarter.mean()]
    )
    assert found["rows"][1]["change"]["value"] == pytest.approx(half.mean() - quarter.mean())
    assert found["rows"][2]["change"] is None
    assert found["rows"][0]["spread"] is None
    assert found["rows"][1]["spread"] == pytest.approx(abs(half[0].mean() - half[1].mean()) / np.sqrt(2))
    (two,) = Bootstrap(50).estimates((quarter.mean(axis=0) - all_votes[0])[:, None], groups)
    assert found["gain"]["value"] == pytest.approx(expected_gain(two).value)
    assert found["gain"]["low"] == pytest.approx(expected_gain(two).low)


@pytest.mark.parametrize(
    ("gain", "prompts", "text"),
    [
        (0.1, 40, "Twice the votes would lower the baseline's log loss by about 0.029 (0.017 to 0.041)."),
        (-0.1, 40, "Whether twice the votes would lower the baseline's log loss is not clear"),
        (0.1, 29, "might change the baseline's log loss by -0.029; fewer than 30 prompts"),
        (None, 40, "Too few votes to say"),
    ],
)
def test_the_sentence_follows_the_range(gain: float | None, prompts: int, text: str) -> None:
    loss = np.random.default_rng(2).uniform(size=(1, prompts))
    points = [Point(400, loss), Point(200, loss + 0.05)]
    if gain is not None:
        points.append(Point(100, loss + gain))
    assert text in learning_curve(points, np.arange(prompts), Bootstrap(20))["text"]
