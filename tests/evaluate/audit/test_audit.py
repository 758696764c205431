"""Audits of judges whose faults are known, on votes drawn from known probabilities."""

import json
from dataclasses import replace

import numpy as np
import pytest
from audited_votes import World, world

from tiebreak.evaluate.audit.audit import Judged, audit
from tiebreak.evaluate.audit.disagreements import chance_of_slip, disagreements, slip_rate, surprises
from tiebreak.evaluate.audit.self_preference import family_of
from tiebreak.evaluate.audit.shift import shift
from tiebreak.stats.agreement import label_counts
from tiebreak.stats.metrics import Bootstrap
from tiebreak.votes.schema import swap_answers

BOOTSTRAP = Bootstrap(200)


@pytest.fixture(scope="module")
def made() -> World:
    return world()


def findings(found):
    return {finding["about"]: finding for finding in found["verdict"]["findings"]}


@pytest.fixture(scope="module")
def of_truth(made):
    """The audit of the probabilities that people vote by."""
    z_IC = np.log(made.true_IC)
    judged = Judged(made.annotations, made.true_IC, np.stack([z_IC, z_IC], axis=1), symmetric=True)
    return audit(judged, BOOTSTRAP, ("own",))


def test_the_truth_is_better_than_one_person_and_has_no_fault(of_truth):
    assert of_truth["verdict"]["use"]
    assert of_truth["verdict"]["headline"].endswith(
        "it predicts people's votes more often than other people do."
    )
    assert {
        about: finding["holds"] for about, finding in findings(of_truth).items() if about != "weakest slice"
    } == {
        "people": True,
        "class shares": True,
        "calibration": True,
        "slices": True,
        "position": True,
        "length": True,
        "self-preference": True,
        "shift": None,
        "surprises": True,
    }


def test_figures_are_json_and_name_what_they_are_of(of_truth, made):
    assert json.loads(json.dumps(of_truth))["verdict"]["headline"] == of_truth["verdict"]["headline"]
    assert (of_truth["votes"], of_truth["pairs"], of_truth["prompts"]) == (600, 200, 200)
    names = [row["name"] for row in of_truth["agreement"]["each_person"]]
    assert sorted(names) == ["annotator1", "annotator2", "annotator3"]
    assert [row["items"] for row in of_truth["agreement"]["between_people"]] == [200, 200, 200]
    slices = {(row["by"], row["name"]) for row in of_truth["calibration"]["slices"]}
    assert {("tags", "language: German"), ("tags", "language: Greek")} <= slices
    assert not {by for by, _ in slices} & {"turns", "model pair"}, "slices of all votes say nothing new"


def test_votes_that_the_judge_has_seen_are_said_first(made):
    judged = Judged(made.annotations, made.true_IC)
    first = audit(judged, Bootstrap(2), seen=90)["verdict"]["findings"][0]
    assert (first["about"], first["holds"]) == ("seen", False)
    assert first["text"].startswith(
        "90 of these 600 votes are on prompts that the judge was trained, calibrated"
    )
    for none in (0, None):
        assert audit(judged, Bootstrap(2), seen=none)["verdict"]["findings"][0]["about"] == "people"


def test_a_judge_that_knows_nothing_is_below_people(made):
    p_IC = np.random.default_rng(1).dirichlet([5, 5, 5], size=200)
    found = audit(Judged(made.annotations, p_IC), BOOTSTRAP)
    assert not found["verdict"]["use"]
    people = findings(found)["people"]
    assert people["holds"] is False
    left_out = found["agreement"]["leave_one_out"]
    assert left_out["less_person"]["high"] < 0
    assert f"{100 * left_out['judge']['value']:.1f} %" in people["text"]


def test_miscalibration_in_one_language_is_found_in_its_slice(made):
    german = np.array(["language: German" in tags for tags in made.annotations.pairs["tags"].to_pylist()])
    sure_IC = made.true_IC**4 / (made.true_IC**4).sum(axis=1, keepdims=True)
    found = audit(Judged(made.annotations, np.where(german[:, None], sure_IC, made.true_IC)), BOOTSTRAP)
    by_name = {row["name"]: row for row in found["calibration"]["slices"]}
    assert by_name["language: German"]["p_adjusted"] < 0.05 < by_name["language: Greek"]["p_adjusted"]
    assert by_name["language: German"]["overconfidence"]["low"] > 0
    assert all(row["p_adjusted"] >= row["p"] for row in found["calibration"]["slices"])
    assert "votes tagged language: German" in findings(found)["slices"]["text"]


def test_self_preference_is_the_excess_over_peoples(made):
    """A judge that moves probability to the models called own, by a tenth on average."""
    own_is_a = np.array([name == "own-1" for name in made.annotations.pairs["model_a"].to_pylist()])
    own_IC = swap_answers(made.true_IC, ~own_is_a)
    moved_I = np.minimum(own_IC[:, 1], 0.1)
    own_IC = own_IC + np.stack([moved_I, -moved_I, np.zeros(200)], axis=1)
    found = audit(Judged(made.annotations, swap_answers(own_IC, ~own_is_a)), BOOTSTRAP, ("own",))
    gap = found["self_preference"]["lead"]["gap"]
    assert gap["low"] > 0
    assert gap["value"] == pytest.approx(2 * moved_I.mean(), abs=0.08), "what sampling of votes adds"
    assert found["self_preference"]["models"] == ["own-1"]
    assert findings(found)["self-preference"]["holds"] is False
    of_others = audit(Judged(made.annotations, made.true_IC), BOOTSTRAP, ("gemma",))
    assert of_others["self_preference"]["lead"] is None
    assert "no votes have a model named gemma" in findings(of_others)["self-preference"]["text"]


def test_position_bias_is_the_judges_beside_peoples(made):
    """A judge gives the first answer 0.2 more logits; people vote for the one shown first in a tenth of their votes."""
    up = np.array([0.1, -0.1, 0])
    z_IC = np.log(made.true_IC)
    z_IOC = np.stack([z_IC + up, swap_answers(swap_answers(z_IC) + up)], axis=1)
    biased = np.random.default_rng(2).random(len(made.annotations)) < 0.3
    first_NC = np.eye(3)[np.where(made.annotations.swapped_N, 1, 0)]
    y_NC = np.where(biased[:, None], first_NC, made.annotations.y_NC)
    voted = replace(made.annotations, y_NC=y_NC)
    found = audit(Judged(voted, made.true_IC, z_IOC, symmetric=True), BOOTSTRAP)
    position = findings(found)["position"]
    assert position["holds"] is False
    assert found["bias"]["position"]["first_advantage"]["low"] > 0
    assert found["bias"]["people_position"]["unexplained"]["low"] > 0
    assert "more than the judge sees in the answers" in position["text"]
    in_one_order = audit(Judged(voted, made.true_IC), BOOTSTRAP)
    assert in_one_order["bias"]["people_position"]["unexplained"] is None
    assert in_one_order["bias"]["position"] is None


def test_a_judge_whose_choice_changes_with_the_order_is_not_free_of_position_bias(made):
    """Noise of either order, without a lead of the first answer."""
    z_IC = np.log(made.true_IC)
    noise = np.random.default_rng(5).normal(scale=3, size=(2, *z_IC.shape))
    z_IOC = np.stack([z_IC + noise[0], z_IC + noise[1]], axis=1)
    found = audit(Judged(made.annotations, made.true_IC, z_IOC, symmetric=True), Bootstrap(200))
    position = found["bias"]["position"]
    assert position["first_advantage"]["low"] < 0 < position["first_advantage"]["high"]
    assert position["flips"]["value"] > 0.25
    assert findings(found)["position"]["holds"] is False


def test_one_vote_on_a_pair_cannot_tell_how_people_agree():
    single = world(count=60, people=1)
    found = audit(Judged(single.annotations, single.true_IC), BOOTSTRAP)
    assert found["agreement"]["among_people"] is found["agreement"]["leave_one_out"] is None
    assert found["slip_rate"] is None
    assert {row["slip"] for row in found["disagreements"]} == {None}
    surprise = [row["surprise"] for row in found["disagreements"]]
    assert surprise == sorted(surprise, reverse=True)
    assert "no pair has votes of two people" in findings(found)["people"]["text"]


def test_a_person_who_votes_twice_on_a_pair_counts_once(made):
    twice = replace(made.annotations, people=["Ada"] * len(made.annotations))
    found = audit(Judged(twice, made.true_IC), BOOTSTRAP)
    assert (found["agreement"]["votes"], found["agreement"]["soft_or_repeated"]) == (200, 400)
    assert found["agreement"]["among_people"] is None


def test_the_slip_rate_is_that_of_its_model():
    """Votes of three: the item's true label, or with probability 0.2 one drawn from the shares."""
    from tiebreak.stats.agreement import among_people

    random = np.random.default_rng(4)
    shares = [0.4, 0.4, 0.2]
    truth = random.choice(3, p=shares, size=6000)
    labels = np.where(
        random.random((6000, 3)) < 0.2, random.choice(3, p=shares, size=(6000, 3)), truth[:, None]
    )
    counts = label_counts(np.repeat(np.arange(6000), 3), labels.ravel(), 6000)
    alpha = among_people(counts, np.arange(6000), Bootstrap(2)).alpha.value
    assert slip_rate(alpha) == pytest.approx(0.2, abs=0.01)
    assert (slip_rate(1.0), slip_rate(-0.1), slip_rate(None)) == (0, 1, None)


def test_the_chance_of_a_slip_is_its_share_in_simulation():
    """A calibrated prior, slips at a rate of 0.2: among pairs with a chance near q, the label is wrong in a share of q."""
    random = np.random.default_rng(5)
    shares = np.array([0.4, 0.4, 0.2])
    p = random.dirichlet(2 * shares, size=40_000)
    truth = (random.random(len(p))[:, None] > p.cumsum(axis=1)[:, :2]).sum(axis=1)
    votes = random.integers(1, 4, size=len(p))
    item = np.repeat(np.arange(len(p)), votes)
    labels = np.where(random.random(len(item)) < 0.2, random.choice(3, p=shares, size=len(item)), truth[item])
    counts = label_counts(item, labels, len(p))
    chosen = counts.argmax(axis=1)
    chance = chance_of_slip(p, counts, chosen, 0.2)
    for low in (0.0, 0.2, 0.4, 0.6):
        inside = (chance >= low) & (chance < low + 0.2)
        assert np.mean(truth[inside] != chosen[inside]) == pytest.approx(chance[inside].mean(), abs=0.03)


def test_three_people_who_agree_come_before_one_who_surprises_more():
    """Pair 0: three votes for b, of which the judge gives 0.1; pair 1: one vote for b, given 0.02; pair 2: as the judge says."""
    voted = replace(world(count=3).annotations, pair_N=np.array([0, 0, 0, 1, 2, 2]), people=[None] * 6)
    voted = replace(voted, y_NC=np.eye(3)[[1, 1, 1, 1, 0, 2]], swapped_N=np.zeros(6, dtype=bool))
    p_IC = np.array([[0.8, 0.1, 0.1], [0.96, 0.02, 0.02], [0.6, 0.3, 0.1]])
    with_slips, without = (disagreements(voted, p_IC, rate) for rate in (0.2, None))
    assert [row["id"] for row in with_slips] == ["p0", "p1"]
    assert [row["id"] for row in without] == ["p1", "p0"]
    assert with_slips[0]["slip"] < 0.05 < 0.8 < with_slips[1]["slip"]
    assert with_slips[1]["surprise"] == pytest.approx(-np.log(0.02))
    assert (with_slips[0]["people"], with_slips[0]["judge"], with_slips[0]["votes_b"]) == ("b", "a", 3)


def test_surprises_are_as_many_as_probabilities_say(made):
    truth = Judged(made.annotations, made.true_IC)
    for row in surprises(truth.probabilities, truth.truth.y_NC, truth.truth.groups_N, BOOTSTRAP):
        assert row["excess"]["low"] < 0 < row["excess"]["high"]
        assert row["seen"]["value"] == pytest.approx(row["expected"], abs=0.04)
    sure = np.where(made.true_IC == made.true_IC.max(axis=1, keepdims=True), 0.98, 0.01)
    few = surprises(sure[made.annotations.pair_N], truth.truth.y_NC, truth.truth.groups_N, BOOTSTRAP)[0]
    assert few["excess"]["low"] > 0


def test_shift_compares_unusual_votes_with_the_others(made):
    truth = Judged(made.annotations, made.true_IC).truth
    random = np.random.default_rng(6)
    p_NC = made.true_IC[made.annotations.pair_N]
    alike = shift(random.random(200)[made.annotations.pair_N], p_NC, truth, BOOTSTRAP)
    assert alike["holds"]
    rank_N = np.where(np.arange(200) < 100, 0.99, 0.5)[made.annotations.pair_N]
    wrong_NC = np.where(rank_N[:, None] > 0.9, swap_answers(p_NC), p_NC)
    found = shift(rank_N, wrong_NC, truth, BOOTSTRAP)
    assert found["holds"] is False
    assert [part["rows"] for part in found["parts"]] == [300, 300]
    usual, unusual = (part["log_loss"]["value"] for part in found["parts"])
    assert found["change"]["value"] == pytest.approx(unusual - usual)
    assert found["change"]["low"] > 0


def test_the_family_is_the_architecture_without_its_version(tmp_path):
    assert family_of(tmp_path) == ()
    (tmp_path / "config.json").write_text('{"model_type": "qwen3_moe"}')
    assert family_of(tmp_path) == ("qwen",)
    (tmp_path / "config.json").write_text('{"model_type": 3}')
    assert family_of(tmp_path) == ()
