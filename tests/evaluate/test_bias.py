import numpy as np
import pytest

from tiebreak.evaluate import bias
from tiebreak.evaluate.variants import LabelledVotes
from tiebreak.stats.metrics import Bootstrap, log_loss
from tiebreak.votes.schema import swap_answers, table_of

N = 240
BOOTSTRAP = Bootstrap(60)
PRIOR = np.array([0.4, 0.4, 0.2])


def truth(y: np.ndarray) -> LabelledVotes:
    return LabelledVotes([str(n) for n in range(len(y))], np.eye(3)[y], np.arange(len(y)))


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(0)


def test_a_symmetric_model_has_no_position_bias(random):
    z = random.normal(size=(N, 3))
    found = bias.position_bias(np.stack([z, z], axis=1), truth(random.integers(3, size=N)), BOOTSTRAP)
    assert {name: estimate["value"] for name, estimate in found.items()} == {
        "first_advantage": 0,
        "change": 0,
        "flips": 0,
    }


def test_a_preference_for_the_first_answer_is_measured(random):
    shown = np.tile(np.log([0.5, 0.3, 0.2]), (N, 1))  # the answer shown first always gets 0.5
    z = np.stack([shown, swap_answers(shown)], axis=1)
    found = bias.position_bias(z, truth(random.integers(3, size=N)), BOOTSTRAP)
    assert found["first_advantage"]["value"] == pytest.approx(0.2)
    assert found["change"]["value"] == pytest.approx(0.2)
    assert found["flips"]["value"] == 1


def test_gap_of_the_longer_answer(random):
    longer_is_a = random.random(N) < 0.5
    advantage = np.where(longer_is_a, 0.4, -0.4)
    y = np.where(longer_is_a, 0, 1)  # the longer answer always wins
    p = np.tile([0.4, 0.4, 0.2], (N, 1))  # and the model does not know
    (only,) = bias.lead_by_advantage(advantage, p, truth(y), BOOTSTRAP)
    assert only["rows"] == N
    assert (only["predicted"]["value"], only["observed"]["value"]) == (0, 1)
    assert only["gap"]["value"] == only["gap"]["low"] == only["gap"]["high"] == -1


def test_leads_are_sliced_by_the_ratio_of_lengths(random):
    lengths = np.array([(10, 10), (15, 10), (10, 16), (30, 10), (10, 31), (0, 5)])
    a, b = np.repeat(lengths, 40, axis=0).T
    p, y = np.full((N, 3), 1 / 3), random.integers(3, size=N)
    found = bias.lead_by_advantage((a - b) / (a + b), p, truth(y), BOOTSTRAP)
    assert [(item["name"], item["rows"]) for item in found] == [
        ("up to 1.5 times", 40),
        ("1.5 to 3 times", 80),
        ("over 3 times", 80),
    ]
    assert bias.lead_by_advantage(np.zeros(N), p, truth(y), BOOTSTRAP) == []


def test_slices_equal_scores_of_their_rows(random):
    p, y = random.dirichlet([1, 1, 1], size=N), random.integers(3, size=N)
    names = np.array(["big"] * 150 + ["small"] * 70 + ["too small"] * 20)
    big, small = bias.slice_metrics(names, p, PRIOR, truth(y), BOOTSTRAP)
    assert (big["name"], big["rows"], small["name"], small["rows"]) == ("big", 150, "small", 70)
    assert small["log_loss"]["value"] == pytest.approx(log_loss(p[150:220], y[150:220]))
    change = log_loss(p[150:220], y[150:220]) - log_loss(np.tile(PRIOR, (70, 1)), y[150:220])
    assert small["change"]["value"] == pytest.approx(change)
    assert small["tie_gap"]["value"] == pytest.approx(p[150:220, 2].mean() - (y[150:220] == 2).mean())


def test_slices_of_few_prompts_are_left_out(random):
    """Slices of few prompts have no useful interval, whatever their number of votes."""
    p, y = random.dirichlet([1, 1, 1], size=N), random.integers(3, size=N)
    names = np.repeat(["many", "few"], N // 2)
    few = LabelledVotes(
        [str(n) for n in range(N)], np.eye(3)[y], np.r_[np.arange(N // 2), N + np.arange(N // 2) % 3]
    )
    (many,) = bias.slice_metrics(names, p, PRIOR, few, BOOTSTRAP)
    assert (many["name"], many["rows"]) == ("many", N // 2)


def test_models_and_pairs_count_every_battle_from_both_sides(random):
    a = np.where(np.arange(N) % 2, "ada", "bob")
    b = np.where(np.arange(N) % 2, "bob", "ada")
    p = np.where((a == "ada")[:, None], [0.6, 0.2, 0.2], [0.2, 0.6, 0.2])  # the model favours ada by 0.4
    y = random.integers(3, size=N)
    wins, losses = ((np.where(y == 0, a, np.where(y == 1, b, "")) == name).mean() for name in ("ada", "bob"))
    by_name = {item["name"]: item for item in bias.models(a, b, p, truth(y), BOOTSTRAP)}
    assert by_name["ada"]["rows"] == by_name["bob"]["rows"] == N
    assert by_name["ada"]["predicted"]["value"] == pytest.approx(0.4)
    assert by_name["ada"]["observed"]["value"] == pytest.approx(wins - losses)
    assert by_name["bob"]["gap"]["value"] == pytest.approx(-by_name["ada"]["gap"]["value"])
    (pair,) = bias.model_pairs(a, b, p, truth(y), BOOTSTRAP)
    assert pair["name"] == "ada over bob"
    assert pair["predicted"] == by_name["ada"]["predicted"]
    assert pair["tie_gap"]["value"] == pytest.approx(0.2 - (y == 2).mean())


def test_whole_report_on_votes_without_models(random):
    pairs = [
        {"prompt": ["why?"] * (1 + n % 5), "response_a": ["x" * (n % 7)], "response_b": ["- y\n- z"]}
        for n in range(N)
    ]
    p, y = random.dirichlet([1, 1, 1], size=N), random.integers(3, size=N)
    found = bias.bias_report(table_of(pairs), p, np.log(p)[:, None], PRIOR, truth(y), BOOTSTRAP)
    assert found["position"] is None
    assert found["models"] == found["model_pairs"] == []
    assert {item["name"] for item in found["turns"]} == {"1", "2", "3", "4 or more"}
    assert [item["name"] for item in found["script"]] == ["Latin"]
    assert found["formatting"][0]["rows"] == N
    assert {item["name"] for item in found["answers"]} == {"under 500 characters"}


def test_answers_are_sliced_by_the_length_of_both(random):
    pairs = [
        {"prompt": ["why?"], "response_a": ["x" * (n // 60) * 1000], "response_b": ["y" * 500]}
        for n in range(N)
    ]
    found = bias.slices_by_kind(
        table_of(pairs), random.dirichlet([1, 1, 1], size=N), PRIOR, truth(np.zeros(N, int)), BOOTSTRAP
    )
    rows = {item["name"]: item["rows"] for item in found["answers"]}
    assert rows == {"500 to 2,000 characters": 120, "2,000 to 5,000 characters": 120}


def test_votes_are_sliced_by_each_of_their_tags():
    random = np.random.default_rng(0)
    pair = {"prompt": ["why?"], "response_a": ["x"], "response_b": ["y"]}
    tags = [["code"] * (n % 2) + ["math"] * (n % 3 == 0) or None for n in range(N)]
    p_NC = random.dirichlet([1, 1, 1], size=N)
    votes = table_of([pair | {"tags": found} for found in tags])
    found = bias.slices_by_kind(votes, p_NC, PRIOR, truth(np.zeros(N, int)), BOOTSTRAP)
    loss = {item["name"]: item["log_loss"]["value"] for item in found["tags"]}
    assert {item["name"]: item["rows"] for item in found["tags"]} == {"code": N // 2, "math": N // 3}
    assert loss["math"] == pytest.approx(-np.log(p_NC[::3, 0]).mean())
    without = bias.slices_by_kind(votes.drop(["tags"]), p_NC, PRIOR, truth(np.zeros(N, int)), BOOTSTRAP)
    assert "tags" not in without
