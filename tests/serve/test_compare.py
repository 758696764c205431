"""The project's own API: equal to the judge in Python, symmetric, and clear about what was cut."""

import numpy as np
import pytest

from tiebreak.serve.bodies import PAIR_EXAMPLE

PAIRS = [
    {"prompt": "Is it raining?", "response_a": "Yes, since noon.", "response_b": "Maybe."},
    {"prompt": "Why? " * 60, "response_a": "Because. " * 40, "response_b": "I do not know."},
    {"prompt": ["One?", "Two?"], "response_a": ["1", "2"], "response_b": ["one", None]},
    {
        "prompt": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}, {"role": "user", "content": "Name?"}],
        "response_a": [{"role": "assistant", "content": "Ada"}],
        "response_b": "None of your business",
    },
    {"prompt": "Empty?", "response_a": "", "response_b": None},
    {"prompt": "Be brief.", "response_a": "ok", "response_b": "Certainly!", "system": "You are terse."},
]  # fmt: skip


def probabilities(results):
    return np.array([[found["p_a"], found["p_b"], found["p_tie"]] for found in results])


def swapped(pair):
    return {**pair, "response_a": pair["response_b"], "response_b": pair["response_a"]}


def test_probabilities_are_those_of_the_judge(client, judge):
    answer = client.post("/v1/compare", {"pairs": PAIRS})
    assert answer.status_code == 200, answer.text
    np.testing.assert_array_equal(probabilities(answer.json()["results"]), judge.predict(PAIRS))


def test_requests_that_are_judged_together_get_the_same(client, judge):
    answers = client.together(*(("/v1/compare", pair) for pair in PAIRS * 5))
    found = np.concatenate([probabilities(answer.json()["results"]) for answer in answers])
    np.testing.assert_allclose(found, np.tile(judge.predict(PAIRS), (5, 1)), atol=1e-6, rtol=0)


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: str(pair["prompt"])[:8])
def test_swapped_answers_swap_probabilities_to_the_last_bit(client, pair):
    (one,) = client.post("/v1/compare", pair).json()["results"]
    (other,) = client.post("/v1/compare", swapped(pair)).json()["results"]
    assert (one["p_a"], one["p_b"], one["p_tie"]) == (other["p_b"], other["p_a"], other["p_tie"])
    assert [(order["p_a"], order["p_b"], order["p_tie"]) for order in one["orders"]] == [
        (order["p_b"], order["p_a"], order["p_tie"]) for order in reversed(other["orders"])
    ]


def test_both_orders_are_those_of_the_model(client, judge):
    (found,) = client.post("/v1/compare", PAIRS[0]).json()["results"]
    assert [order["first"] for order in found["orders"]] == ["a", "b"]
    calibrated = judge.postprocessing.calibration.predict_proba(
        probabilities(found["orders"]).mean(axis=0)[None]
    )
    np.testing.assert_allclose(probabilities([found]), calibrated, atol=1e-15)
    assert found["decided_by"] == "model"


def test_what_is_cut_is_said(client):
    whole, cut = client.post("/v1/compare", {"pairs": PAIRS[:2]}).json()["results"]
    assert not whole["truncated"]
    assert cut["truncated"]
    assert cut["tokens"]["prompt"]["kept"] < cut["tokens"]["prompt"]["given"]
    assert cut["tokens"]["response_b"]["kept"] == cut["tokens"]["response_b"]["given"]


def test_usage_counts_the_tokens_of_both_orders(client, judge):
    answer = client.post("/v1/compare", PAIRS[0]).json()
    tokens = sum(text["given"] for text in answer["results"][0]["tokens"].values())
    assert answer["usage"]["prompt_tokens"] == 2 * (tokens + judge.judgements(_table(PAIRS[0])).frame_tokens)


def _table(pair):
    from tiebreak.judge.inputs import as_table

    return as_table([pair])[0]


def test_ranks_as_the_judge_does(client, judge):
    responses = ["Yes.", "Maybe.", "No.", "Yes."]
    answer = client.post("/v1/rank", {"prompt": "Is it raining?", "responses": responses}).json()
    expected = judge.rank("Is it raining?", responses)
    assert answer["order"] == expected.order
    assert answer["best"] == expected.best
    np.testing.assert_allclose(answer["scores"], expected.scores, atol=1e-6)
    np.testing.assert_allclose(answer["p_best"], expected.p_best, atol=1e-6)
    assert answer["pairs"] == [list(pair) for pair in expected.pairs]
    assert answer["usage"]["prompt_tokens"] > 0


def test_a_budget_of_pairs_is_kept(client):
    body = {"prompt": "Name a number.", "responses": [str(n) for n in range(10)], "pairs": 9}
    assert len(client.post("/v1/rank", body).json()["pairs"]) == 9


@pytest.mark.parametrize(
    ("body", "message", "param"),
    [
        ({**PAIR_EXAMPLE, "prompt": 5}, "prompt: Input should be a string, a list of turns, or a list of chat messages", "prompt"),
        ({"prompt": "x", "response_a": "y"}, "response_b: Field required", "response_b"),
        ({**PAIR_EXAMPLE, "response_c": "z"}, "response_c: Extra inputs are not permitted", "response_c"),
        ({"pairs": []}, "pairs: List should have at least 1 item after validation, not 0", "pairs"),
        ({"pairs": [PAIR_EXAMPLE, {"prompt": "x"}]}, "pairs.1.response_a: Field required; pairs.1.response_b: Field required", "pairs.1.response_a"),
        ({**PAIR_EXAMPLE, "prompt": ["a", "b"]}, "pair 0: turn counts differ: prompt 2, response_a 1, response_b 1; ", None),
        ({**PAIR_EXAMPLE, "prompt": [{"role": "judge", "content": "x"}]}, "pair 0: response_a has a message of an unknown role: judge; ", None),
        ([1], "Input should be a valid dictionary or object to extract fields from: JSON, with the header Content-Type: application/json", None),
    ],
)  # fmt: skip
def test_a_body_that_is_no_pair_is_told_why(client, body, message, param):
    answer = client.post("/v1/compare", body)
    assert answer.status_code == 422
    error = answer.json()["error"]
    assert error["message"].startswith(message)
    assert error == {
        "message": error["message"],
        "type": "UnprocessableEntityError",
        "param": param,
        "code": 422,
    }


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"prompt": "x", "responses": []}, "responses: List should have at least 1 item"),
        ({"prompt": "x", "responses": ["y"] * 65}, "responses: List should have at most 64 items"),
        ({"prompt": ["x", "y"], "responses": ["z"]}, "turn counts differ"),
    ],
)
def test_what_cannot_be_ranked_is_told_why(client, body, message):
    answer = client.post("/v1/rank", body)
    assert answer.status_code == 422
    assert answer.json()["error"]["message"].startswith(message)


def test_a_body_that_is_no_json_is_told_where(client):
    answer = client.post("/v1/compare", content='{"prompt": ', headers={"Content-Type": "application/json"})
    assert answer.json()["error"]["message"].startswith("the body is not JSON: ")
    assert answer.status_code == 422
