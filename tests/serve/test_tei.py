"""Requests to /predict as in docs/openapi.json of text-embeddings-inference, and its shapes."""

import json

import pytest

from tiebreak.serve.bodies import PAIR_EXAMPLE

TRIPLE = ["Is it raining?", "Yes, since noon.", "Maybe."]


def labels(judge, pair):
    found = [
        {"score": p, "label": label}
        for p, label in zip(judge.predict([pair])[0].tolist(), ("a", "b", "tie"), strict=True)
    ]
    return sorted(found, key=lambda row: -row["score"])


@pytest.mark.parametrize(
    "inputs", [TRIPLE, PAIR_EXAMPLE, json.dumps(PAIR_EXAMPLE)], ids=["list", "object", "string"]
)
def test_one_input_gives_its_labels_highest_first(client, judge, inputs):
    answer = client.post("/predict", {"inputs": inputs, "raw_scores": False, "truncate": True})
    assert answer.status_code == 200, answer.text
    assert answer.json() == labels(judge, PAIR_EXAMPLE)


def test_a_batch_gives_a_list_of_each(client, judge):
    answer = client.post("/predict", {"inputs": [TRIPLE, [json.dumps(PAIR_EXAMPLE)], PAIR_EXAMPLE]}).json()
    assert [[row["label"] for row in found] for found in answer] == [
        [row["label"] for row in labels(judge, PAIR_EXAMPLE)]
    ] * 3
    assert answer[0][0]["score"] == pytest.approx(labels(judge, PAIR_EXAMPLE)[0]["score"], abs=1e-6)


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ({"inputs": "What is Deep Learning?"}, 422, "inputs[0] is a text that is no JSON object of a pair"),
        ({"inputs": ["one", "two"]}, 422, "inputs: List should have at least 3 items"),
        ({"inputs": [["one", "two"]]}, 422, "inputs.0: List should have at least 3 items"),
        ({"inputs": [[1, 2, 3]]}, 422, "inputs.0.0: Input should be a valid string"),
        ({"inputs": 5}, 422, "inputs: Input should be a pair"),
        ({"inputs": []}, 422, "inputs: List should have at least 1 item"),
        ({"inputs": TRIPLE, "raw_scores": True}, 422, "raw_scores: Input should be False"),
        (
            {"inputs": ["x " * 100, "y", "z"], "truncate": False},
            413,
            "inputs must have at most 120 tokens; given: ",
        ),
    ],
)
def test_what_cannot_be_done_is_told_in_its_shape(client, body, status, message):
    answer = client.post("/predict", body)
    assert answer.status_code == status
    assert answer.json().keys() == {"error", "error_type"}
    assert answer.json()["error"].startswith(message)
    assert answer.json()["error_type"] == "validation"
