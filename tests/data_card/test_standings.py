import numpy as np
import pytest

from tiebreak.data_card import standings as standings_module
from tiebreak.data_card.standings import WIDEST_MARGIN, standings

A, B, TIE = range(3)


def rank(votes, weights=None, groups=None):
    """The standings of votes (first, second, label)."""
    names = sorted({name for first, second, _ in votes for name in (first, second)})
    models = np.array([[names.index(first), names.index(second)] for first, second, _ in votes])
    p = np.eye(3)[[label for *_, label in votes]]
    weights = np.ones(len(votes)) if weights is None else weights
    groups = np.arange(len(votes)) if groups is None else groups
    return standings(p, models, weights, groups, names)


def core(times=15):
    """Two models on either side, each winning some; x more often."""
    return [("x", "y", A), ("x", "y", A), ("x", "y", B), ("y", "x", A), ("y", "x", B), ("y", "x", B)] * times


def unranked(found):
    return {model.name: model.why_apart for model in found.models if model.why_apart}


def test_models_that_the_votes_compare_are_ranked():
    found = rank(core())
    assert [model.name for model in found.models] == ["x", "y"]
    assert unranked(found) == {}
    assert found.models[0].elo == pytest.approx(-found.models[1].elo)
    assert found.models[0].wins.value == pytest.approx(2 / 3)
    assert abs(found.advantage) < found.margin


@pytest.mark.parametrize(
    ("votes", "reason"),
    [
        ([("z", "x", A)] * 15 + [("y", "z", B)] * 15, "won every vote"),
        ([("z", "x", B)] * 15 + [("y", "z", A)] * 15, "lost every vote"),
        ([("z", "x", A), ("x", "z", A)] * 3, "in fewer than 20 prompts"),
        ([("z", "w", A), ("w", "z", A)] * 15, "never compared with the others, nor through a third"),
        (
            [("z", "x", A), ("x", "z", B), ("w", "z", A), ("z", "w", A)] * 15,
            "no votes for and against it, as a comparison with the others needs",
        ),
        ([("z", "x", A), ("x", "z", B)] * 22 + [("z", "x", B)], f"interval wider than ± {WIDEST_MARGIN} Elo"),
    ],
)
def test_why_a_model_is_set_apart(votes, reason):
    found = rank(core() + votes)
    assert unranked(found)["z"] == reason
    assert [model.name for model in found.models][:2] == ["x", "y"]


def test_of_very_many_models_those_with_the_most_votes_are_ranked(monkeypatch):
    monkeypatch.setattr(standings_module, "MOST_MODELS", 2)
    alone, found = rank(core()), rank(core() + [("a", "x", A), ("z", "a", B)] * 20)
    reason = "not among the 2 models with the most votes"
    assert unranked(found) == {"a": reason, "z": reason}
    assert [model.elo for model in found.models[:2]] == [model.elo for model in alone.models]
    assert {model.name: model.votes for model in found.models} == {"x": 110, "y": 90, "a": 40, "z": 20}


def test_votes_on_few_prompts_rank_nothing():
    votes = core() + [("z", "x", A), ("x", "z", A)] * 20
    prompts = np.r_[np.arange(90), 90 + np.arange(40) % 4]
    assert unranked(rank(votes)) == {}
    assert unranked(rank(votes, groups=prompts)) == {"z": "in fewer than 20 prompts"}


@pytest.mark.parametrize("side", ["first", "second"])
def test_models_that_are_always_on_one_side_of_all_others(side):
    pairs = [("base", other, label) for other in "xyz" for label in (A, A, B, TIE)] * 10
    if side == "second":
        pairs = [(other, base, label) for base, other, label in pairs]
    found = rank(pairs)
    reason = f"always shown {side}, so its strength cannot be told from the position's effect"
    assert unranked(found) == {"base": reason}
    assert (found.advantage, found.margin) == (None, None)
    assert found.why_unknown == f"base was {reason}"
    assert len(found.models) == 4


def test_a_baseline_and_one_other_model_are_not_ranked_at_all():
    found = rank([("base", "x", A), ("base", "x", B), ("base", "x", TIE)] * 30)
    assert set(unranked(found)) == {"base", "x"}
    assert all(np.isnan(model.elo) for model in found.models)
    assert found.why_unknown.startswith("base was always shown first")
