"""Strengths at equal style: as arena-rank has them, symmetric, and right where style is all that differs."""

import runpy
from pathlib import Path

import numpy as np
import pytest
from made_up_votes import JUDGES, all_pairs, drawn, probabilities

from tiebreak.stats import bradley_terry, ratings, style_control

PEERS = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "compare_peers.py"))
ELO = [103.2281581274649, 28.142632363290886, -8.160757359823947, -123.21003313093206]
COEFFICIENTS = [0.34421667466574485, -0.1779612111853211]
"""By arena-rank 0.1.1: python benchmarks/compare_peers.py."""


def test_without_ties_they_are_those_of_arena_rank():
    data = PEERS["votes"]()
    y = np.stack([data["won"], 1 - data["won"], np.zeros(len(data["won"]))], axis=1)
    found = style_control.fit(data["model"], y, data["style"], np.arange(len(y)), 4)
    assert bradley_terry.ELO * found.ratings.strengths_ == pytest.approx(ELO, abs=2e-3)
    assert found.coefficients_ == pytest.approx(COEFFICIENTS, abs=1e-5)


def made_up(random, rows=6000):
    """Models of equal worth, of which the second writes longer; length alone decides."""
    models = np.array([[0, 1], [1, 2], [2, 0]])[np.arange(rows) % 3]
    long = random.gamma(4, 100, size=(rows, 2)) * (1 + 2 * (models == 1))
    style = style_control.differences(long[:, :1], long[:, 1:])
    return models, drawn(random, probabilities(0.8 * style[:, 0])), style


def test_what_length_alone_decides_is_no_strength():
    models, y, style = made_up(np.random.default_rng(0))
    groups = np.arange(len(y))
    raw = ratings.fit(models, y, groups, 3)
    found = style_control.fit(models, y, style, groups, 3)
    assert raw.strengths_[1] > 0.5
    assert (np.abs(found.ratings.strengths_) <= found.ratings.margins).all()
    assert abs(found.coefficients_[0] - 0.8) <= found.margins_[0]


def test_it_does_not_matter_which_answer_is_a():
    models, y, style = made_up(np.random.default_rng(1), 900)
    groups = np.arange(900) // 3
    found = style_control.fit(models, y, style, groups, 3)
    other = style_control.fit(models[:, ::-1], y[:, [1, 0, 2]], -style, groups, 3)
    assert other.ratings.strengths_ == pytest.approx(found.ratings.strengths_)
    assert other.coefficients_ == pytest.approx(found.coefficients_)
    assert other.margins_ == pytest.approx(found.margins_)


def test_a_style_in_which_nothing_differs_has_the_coefficient_0():
    models, y, style = made_up(np.random.default_rng(2), 900)
    more = np.column_stack([style, np.zeros(900)])
    found = style_control.fit(models, y, more, np.arange(900), 3)
    alone = style_control.fit(models, y, style, np.arange(900), 3)
    assert found.coefficients_ == pytest.approx([alone.coefficients_[0], 0])
    assert found.ratings.strengths_ == pytest.approx(alone.ratings.strengths_)


def test_a_style_that_differs_alike_in_all_rows_counts_whichever_answer_is_a():
    models, y, style = made_up(np.random.default_rng(5), 900)
    swapped = np.arange(900) % 2 == 1
    other = (
        np.where(swapped[:, None], models[:, ::-1], models),
        np.where(swapped[:, None], y[:, [1, 0, 2]], y),
    )
    one = np.ones_like(style)
    found = style_control.fit(models, y, one, np.arange(900), 3)
    again = style_control.fit(*other, np.where(swapped[:, None], -one, one), np.arange(900), 3)
    assert found.coefficients_ == pytest.approx(again.coefficients_, abs=1e-8)
    assert found.margins_ == pytest.approx(again.margins_)
    assert found.margins_[0] > 0


@pytest.mark.parametrize("seed", range(6))
def test_a_style_of_models_and_not_of_answers_gives_none(seed):
    """Up to rounding, strengths and the coefficient are not told apart."""
    models, y, _ = made_up(np.random.default_rng(seed), 200 + seed)
    own = np.random.default_rng(seed).random(3)
    style = (own[models[:, 0]] - own[models[:, 1]])[:, None]
    assert style_control.fit(models, y, style, np.arange(len(y)), 3) is None
    noise = np.random.default_rng(seed).normal(size=(len(y), 1))
    assert style_control.fit(models, y, np.hstack([noise, 3 * noise]), np.arange(len(y)), 3) is None


def test_without_styles_they_are_the_strengths():
    models, y, style = made_up(np.random.default_rng(3), 900)
    groups = np.arange(900) // 3
    found = style_control.fit(models, y, style * 0, groups, 3).ratings
    expected = ratings.fit(models, y, groups, 3)
    assert found.strengths_ == pytest.approx(expected.strengths_, abs=1e-7)
    assert found.margins == pytest.approx(expected.margins)


def test_differences_are_shares_of_what_both_have():
    found = style_control.differences(np.array([[3.0, 0], [1, 0]]), np.array([[1.0, 0], [1, 0]]))
    assert found == pytest.approx(np.array([[np.sqrt(2), 0], [0, 0]]))


def test_rows_that_do_not_tell_style_from_strength_give_none():
    models, y, style = made_up(np.random.default_rng(4), 90)
    won = np.eye(3)[(style[:, 0] < 0).astype(int)]
    assert style_control.fit(models, won, style, np.arange(90), 3) is None
    same = np.tile(style[:1], (90, 1)) * (1 - 2 * (models[:, :1] == 1))
    assert style_control.fit(models[:60], y[:60], same[:60] * 0, np.arange(60), 3) is not None
    always = np.tile([[1.0, 0.0, 0.0]], (30, 1))
    assert style_control.fit(np.tile([[0, 1]], (30, 1)), always, np.zeros((30, 1)), np.arange(30), 2) is None


def styled(random, prompts, strengths=(0.5, 0.0, -0.5)):
    """Pairs of models whose answers' style counts too."""
    models, gap, groups = all_pairs(random, np.array(strengths), prompts)
    counts = random.gamma(4, 100, size=(2, len(gap), 2))
    style = (counts[0] - counts[1]) / counts.sum(axis=0) / 0.35
    return models, gap + style @ [0.5, 0.3], style, groups


def test_without_styles_a_judge_is_worth_what_he_is_to_the_strengths():
    """But for the residuals, which are from the model's probabilities here and from the pair's mean there: the same up to the weight."""
    random = np.random.default_rng(7)
    models, gap, groups = all_pairs(random, np.array([0.5, 0.0, -0.5]), 300)
    flip = random.random(len(gap)) < 0.5
    sides = np.where(flip[:, None], models[:, ::-1], models)
    y, f = drawn(random, probabilities(gap)), probabilities(gap)
    y, f = (np.where(flip[:, None], x[:, [1, 0, 2]], x) for x in (y, f))
    y[groups >= 100] = np.nan
    found = style_control.fit(sides, y, np.zeros((len(y), 1)), groups, 3, f).ratings
    expected = ratings.fit(sides, y, groups, 3, f)
    assert found.weight_ == pytest.approx(expected.weight_, rel=1e-6)
    assert found.strengths_ == pytest.approx(expected.strengths_, abs=1e-6)
    assert found.margins == pytest.approx(expected.margins, rel=1e-6)


@pytest.mark.parametrize("judge", JUDGES)
def test_intervals_from_votes_and_a_judge_hold_whatever_it_says(judge):
    """100 votes, one a prompt; more of it in benchmarks/compare_style.py."""
    models, gap, style, groups = styled(np.random.default_rng(8), 20_000)
    true = style_control.fit(models, probabilities(gap), style, groups, 3)
    random = np.random.default_rng(9)
    held, width = [], []
    for _ in range(60):
        models, gap, style, groups = styled(random, 300)
        y = drawn(random, probabilities(gap))
        voted = 3 * np.arange(100) + random.integers(0, 3, 100)
        y[np.isin(np.arange(len(y)), voted, invert=True)] = np.nan
        found = style_control.fit(models, y, style, groups, 3, JUDGES[judge](gap, models, random))
        alone = style_control.fit(models, y, style, groups, 3)
        held.append(np.abs(found.ratings.strengths_ - true.ratings.strengths_) <= found.ratings.margins)
        held.append(np.abs(found.coefficients_ - true.coefficients_) <= found.margins_)
        width.append(found.ratings.margins.mean() / alone.ratings.margins.mean())
    assert 0.92 <= np.mean(np.concatenate(held)) <= 0.99
    assert np.mean(width) <= (1.0 + 1e-9 if judge == "adversarial" else 0.97)
