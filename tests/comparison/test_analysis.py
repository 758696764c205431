"""The whole analysis on made-up answers, where the truth is known."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from made_up_comparison import made_up, voted
from made_up_votes import all_pairs, drawn, probabilities

from tiebreak.comparison import analysis, sentences
from tiebreak.comparison.judged import judged
from tiebreak.comparison.sentences import worth


def test_the_order_ranks_and_rates_are_those_of_the_truth():
    made, _, gap = made_up(250)
    found = analysis.compare(made, voted(gap, 0.4), ["kind", "length", "language"])
    board = found.leaderboard
    assert board.source == "votes and judge"
    assert [one.source for one in found.by_source] == ["votes", "judge"]
    assert board.standings[0].model == "ada"
    assert board.standings[-1].model == "dan"
    assert (board.standings[0].best_rank, board.standings[-1].worst_rank) == (1, 4)
    assert 0 < board.judge_weight < 2
    for standing in board.standings:
        assert standing.elo.low < standing.elo.value < standing.elo.high
    assert len(found.pairs) == 6
    for pair in found.pairs:
        first = pair.rates[0]
        assert [rates.source for rates in pair.rates] == ["votes and judge", "votes", "judge"]
        assert first.win_rate.value == pytest.approx(first.win.value + first.tie.value / 2, abs=0.02)
        assert pair.effective_votes > 0.9 * first.comparisons
    assert {(s.by, s.name) for s in found.slices} >= {("kind", "a"), ("kind", "b"), ("language", "Latin")}
    assert found.worth.effective_votes > found.worth.compared
    assert found.next_votes.votes == analysis.NEXT_VOTES
    assert sum(count for *_, count in found.next_votes.pairs) == analysis.NEXT_VOTES


def test_win_rates_of_the_board_are_by_its_strengths():
    made, _, _ = made_up(100)
    board = analysis.compare(made).leaderboard
    names = [standing.model for standing in board.standings]
    better = np.array(board.p_better, float)
    assert better + better.T == pytest.approx(np.ones((4, 4)))
    assert board.win_rate("ada", "dan") == better[names.index("ada"), names.index("dan")] > 0.7
    first, last = board.standings[0].elo.value, board.standings[-1].elo.value
    odds = np.exp((first - last) * np.log(10) / 400)
    assert better[0, -1] > odds / (odds + 1) - 0.2
    pytest.importorskip("pandas")
    assert len(board.to_frame()) == 4
    drawn = board.plot()._repr_svg_()
    assert drawn.startswith('<svg xmlns="http://www.w3.org/2000/svg"')
    assert "class=" not in drawn, "a notebook has no style sheet"


def test_by_the_judge_alone_it_says_what_the_intervals_leave_out():
    found = analysis.compare(made_up(60)[0])
    assert found.worth is None
    assert [count for *_, count in found.next_votes.pairs] == [17, 17, 17, 17, 16, 16]
    assert found.next_votes.errors_fall_by is None
    assert "where the judge's preferences are not people's" in found.notes[0]
    assert found.headline.startswith("ada ")
    assert "by the judge" in found.headline
    assert "significan" not in json.dumps(found.as_dict())


@pytest.mark.parametrize(
    ("of", "headline", "why"),
    [
        (0, "ada won all of its 25 comparisons, by people's votes: ", "won all of its 25"),
        (1, "bob won all of its 25 comparisons, by people's votes: ", "won all of its 25"),
        (2, "Too little to rank the models", "had ties in all of its 25"),
    ],
    ids=["wins", "losses", "ties"],
)
def test_who_won_everything_comes_first(of, headline, why):
    """Without a bound to its strength; ties alone are told as such."""
    y = np.tile(np.eye(3)[of], (25, 1))
    rows = analysis.Rows(
        ("ada", "bob", "cyd"), np.tile([[0, 1]], (25, 1)), np.arange(25), None, y, np.ones(25, int)
    )
    board = analysis.leaderboard(rows, "votes")
    assert sentences.headline(board, []).startswith(headline)
    assert board.standings[0].why_apart == why
    assert board.standings[0].rates.win_rate.low > 0.85 or of == 2
    assert board.standings[0].unbeaten == (of != 2)
    assert (board.standings[2].model, board.standings[2].why_apart) == ("cyd", "no votes")


def test_the_headline_names_models_without_votes():
    made, _, gap = made_up(200)
    y, count = voted(gap, 0.8)
    of_dan = (made.sides == 3).any(axis=1)
    y[of_dan], count[of_dan] = np.nan, 0
    found = analysis.compare(made, (y, count))
    assert found.headline.endswith(". Not ranked: dan.")
    assert found.next_votes.pairs[0][2] >= 16
    assert sum(n for a, b, n in found.next_votes.pairs if "dan" in (a, b)) == 50, "half of the next votes"


def test_at_equal_style_and_length_votes_and_judge_are_taken_together():
    made, _, gap = made_up(250)
    found = analysis.compare(made, voted(gap, 0.4))
    assert [style.leaderboard.source for style in found.style] == ["votes and judge", "votes", "judge"]
    both, alone, _ = found.style
    assert both.leaderboard.judge_weight > 0.3
    for standing, other in zip(both.leaderboard.standings, alone.leaderboard.standings, strict=True):
        assert standing.elo.high - standing.elo.low < other.elo.high - other.elo.low + 3
    for pair in found.pairs:
        assert list(pair.length_controlled) == ["votes and judge", "votes", "judge"]
        assert pair.at_equal_length == pair.length_controlled["votes and judge"]


def test_models_that_say_the_same_come_out_even():
    made, chosen, gap = made_up(60)
    found = analysis.compare(judged(chosen, np.full((len(gap), 3), 1 / 3), made.models))
    assert found.headline.startswith("ada, bob, cyd and 1 more come out even, by the judge: ")


def test_a_judge_of_the_opposite_opinion_does_not_matter_beside_votes():
    made, chosen, gap = made_up(150)
    contrary = judged(chosen, probabilities(-gap), made.models)
    votes = voted(gap, 0.5)
    found = analysis.compare(contrary, votes)
    board, (alone, judge) = found.leaderboard, found.by_source
    assert board.standings == tuple(
        replace(s, rates=replace(s.rates, source="votes and judge")) for s in alone.standings
    )
    assert [s.model for s in judge.standings] == [s.model for s in reversed(board.standings)]
    assert found.worth.effective_votes == pytest.approx(found.worth.compared)


def test_votes_on_chosen_comparisons_are_noticed():
    made, _, gap = made_up(250)
    votes, count = voted(gap, 1.0)
    odd = (gap < 0) & (np.random.default_rng(3).random(len(gap)) < 0.6)
    chosen = np.where(odd[:, None], votes, np.nan), odd.astype(np.int64)
    assert any("do not look like a random sample" in note for note in analysis.compare(made, chosen).notes)
    fair = voted(gap, 0.3)
    assert not any("random sample: the judge" in note for note in analysis.compare(made, fair).notes)
    assert count.all()


def test_few_prompts_have_figures_without_intervals():
    made, _, gap = made_up(12)
    found = analysis.compare(made, voted(gap, 0.8))
    assert all(s.elo is None or s.elo.low is None for s in found.leaderboard.standings)
    assert all("fewer than 20 prompts" in s.why_apart for s in found.leaderboard.standings if s.elo)
    assert found.headline.startswith("Too little to rank the models")
    assert [*worth(found)] == ["Votes on fewer than 20 prompts do not tell what the judge is worth."]
    json.dumps(found.as_dict(), allow_nan=False)


def test_a_pair_without_votes_has_no_rates_of_them():
    made, _, gap = made_up(60)
    y, count = voted(gap, 0.9)
    none = (made.sides == [0, 3]).all(axis=1)
    y[none], count[none] = np.nan, 0
    found = analysis.compare(made, (y, count))
    pair = next(pair for pair in found.pairs if {pair.model, pair.other} == {"ada", "dan"})
    assert pair.rates[0].comparisons == 0
    assert math.isnan(pair.rates[0].win_rate.value)
    assert pair.rates[2].comparisons == 60
    assert pair.effective_votes is None


@pytest.mark.parametrize("models", [2, 10])
@pytest.mark.parametrize(
    ("chosen", "is_random"),
    [
        (lambda gap, _: np.ones_like(gap), True),
        (lambda gap, prompt: prompt % 3 + 1e-9, True),
        (lambda gap, _: np.exp(gap / 2), False),
        (lambda gap, _: np.exp(-1.5 * np.abs(gap)), False),
    ],
    ids=["at random", "whole prompts", "what the judge prefers", "what the judge is unsure of"],
)
def test_votes_that_are_no_random_sample_are_seen_with_few_on_each_pair(models, chosen, is_random):
    """180 votes, of ten models four on a pair."""
    random = np.random.default_rng(11)
    seen = []
    for _ in range(10):
        model_N2, gap_N, prompt_N = all_pairs(random, np.linspace(0.5, -0.5, models), 1800 // models**2 + 60)
        p_NC = probabilities(gap_N)
        weight_N = chosen(gap_N, prompt_N)
        voted = random.choice(len(gap_N), min(180, len(gap_N) // 3), False, weight_N / weight_N.sum())
        count_N = np.bincount(voted, minlength=len(gap_N))
        y_NC = np.where(count_N[:, None] > 0, drawn(random, p_NC), np.nan)
        names = tuple(map(str, range(models)))
        seen.append(analysis.sampling_gap(analysis.Rows(names, model_N2, prompt_N, p_NC, y_NC, count_N)) > 0)
    assert np.mean(seen) <= 0.1 if is_random else np.mean(seen) >= 0.8
