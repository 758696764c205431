"""Requests as in the documents of vLLM, SGLang, Jina and Cohere, and the shapes that their clients expect."""

import json

import numpy as np
import pytest

from tiebreak.serve.bodies import PAIR_EXAMPLE

OTHER = {"prompt": "Why?", "response_a": "Because.", "response_b": "No idea."}
DOCUMENTS = ["Yes, since noon.", "Maybe.", "No."]


@pytest.mark.parametrize("path", ["/classify", "/v1/classify"])
def test_classify(client, judge, path):
    """docs/models/pooling_models/classify.md of vLLM, serving_classify.py of SGLang."""
    body = {"model": "tiny", "input": [PAIR_EXAMPLE, json.dumps(OTHER)], "user": "me", "priority": 0}
    answer = client.post(path, body)
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert found.keys() == {"id", "object", "created", "model", "data", "usage"}
    assert (found["object"], found["model"]) == ("list", "tiny")
    assert found["usage"].keys() == {"prompt_tokens", "total_tokens", "completion_tokens"}
    assert found["usage"]["prompt_tokens"] == found["usage"]["total_tokens"] > 0
    assert found["usage"]["completion_tokens"] == 0
    p_NC = judge.predict([PAIR_EXAMPLE, OTHER])
    assert found["data"] == [
        {"index": n, "label": ("a", "b", "tie")[p_C.argmax()], "probs": p_C.tolist(), "num_classes": 3}
        for n, p_C in enumerate(p_NC)
    ]


@pytest.mark.parametrize("given", [PAIR_EXAMPLE, json.dumps(PAIR_EXAMPLE)])
def test_one_input_is_a_list_of_one(client, given):
    (found,) = client.post("/classify", {"input": given}).json()["data"]
    assert found["index"] == 0


@pytest.mark.parametrize("path", ["/score", "/v1/score"])
@pytest.mark.parametrize(
    ("one", "two"),
    [("text_1", "text_2"), ("queries", "documents"), ("queries", "items"), ("data_1", "data_2")],
)
def test_score(client, judge, path, one, two):
    """docs/models/pooling_models/scoring.md of vLLM: one prompt, many answers."""
    answer = client.post(path, {"model": "tiny", one: "Is it raining?", two: DOCUMENTS})
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert found.keys() == {"id", "object", "created", "model", "data", "usage"}
    assert [(row["index"], row["object"]) for row in found["data"]] == [(n, "score") for n in range(3)]
    scores = [row["score"] for row in found["data"]]
    np.testing.assert_allclose(scores, judge.rank("Is it raining?", DOCUMENTS).p_best, atol=1e-6)


def test_scores_of_several_prompts_are_of_each_by_itself(client):
    prompts, answers = (
        ["Is it raining?", "Why?", "Is it raining?", "Why?"],
        ["Yes.", "So.", "No.", "Because."],
    )
    together = [
        row["score"] for row in client.post("/score", {"text_1": prompts, "text_2": answers}).json()["data"]
    ]
    assert together[0] + together[2] == pytest.approx(1)
    alone = client.post("/score", {"text_1": "Why?", "text_2": ["So.", "Because."]}).json()["data"]
    np.testing.assert_allclose([together[1], together[3]], [row["score"] for row in alone], atol=1e-6)


@pytest.mark.parametrize("path", ["/rerank", "/v1/rerank", "/v2/rerank"])
def test_rerank(client, judge, path):
    """Jina's and Cohere's requests; the response is vLLM's, which has the fields of both."""
    answer = client.post(
        path, {"model": "tiny", "query": "Is it raining?", "documents": DOCUMENTS, "top_n": 2}
    )
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert found.keys() == {"id", "object", "created", "model", "usage", "results"}
    ranking = judge.rank("Is it raining?", DOCUMENTS)
    assert [row["index"] for row in found["results"]] == ranking.order[:2]
    for row in found["results"]:
        assert row.keys() == {"index", "document", "relevance_score"}
        assert row["document"] == {"text": DOCUMENTS[row["index"]]}
        assert row["relevance_score"] == pytest.approx(ranking.p_best[row["index"]], abs=1e-6)


def test_documents_may_be_objects_and_stay_out_of_the_response(client):
    documents = [{"text": "Yes."}, {"content": [{"type": "text", "text": "No."}]}, "Maybe."]
    body = {"query": "Is it raining?", "documents": documents}
    texts = {row["index"]: row["document"]["text"] for row in client.post("/rerank", body).json()["results"]}
    assert texts == {0: "Yes.", 1: "No.", 2: "Maybe."}
    answer = client.post("/v1/rerank", {**body, "return_documents": False}).json()
    assert all(row.keys() == {"index", "relevance_score"} for row in answer["results"])


@pytest.mark.parametrize(
    ("path", "body", "status", "message"),
    [
        ("/classify", {"input": "Loved the new café."}, 400, "input[0] is a text that is no JSON object of a pair. A judge compares two answers"),
        ("/classify", {"input": [1, 2]}, 400, "input.0: Input should be a pair"),
        ("/classify", {"input": []}, 400, "input: List should have at least 1 item"),
        ("/classify", {"input": {"prompt": "x", "response_a": "y"}}, 400, "input.response_b: Field required"),
        ("/classify", {"messages": [{"role": "user", "content": "x"}]}, 400, "input: Field required"),
        ("/classify", {"input": PAIR_EXAMPLE, "use_activation": False}, 400, "use_activation: Input should be True"),
        ("/classify", {"input": PAIR_EXAMPLE, "truncate_prompt_tokens": 5}, 400, "truncate_prompt_tokens: Input should be -1"),
        ("/classify", {"input": PAIR_EXAMPLE, "model": "gpt"}, 404, "the model 'gpt' does not exist; served is 'tiny'"),
        ("/score", {"text_1": "x", "text_2": "y"}, 400, "answer 0 is the only one to its prompt"),
        ("/score", {"text_1": ["x", "z"], "text_2": ["y"] * 3}, 400, "2 prompts and 3 answers"),
        ("/score", {"text_1": "x"}, 400, "text_1 and text_2 are needed"),
        ("/score", {"text_1": "x", "text_2": []}, 400, "1 prompts and 0 answers"),
        ("/rerank", {"query": "x", "documents": []}, 400, "documents: List should have at least 1 item"),
        ("/rerank", {"query": "x", "documents": [{"title": "y"}]}, 400, "documents.0: Value error, a document has text, or content"),
        ("/rerank", {"query": "x", "documents": ["y"] * 65}, 400, "not 1 to 64 responses"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_told_as_vllm_tells_it(client, path, body, status, message):
    answer = client.post(path, body)
    assert answer.status_code == status
    error = answer.json()["error"]
    assert error["message"].startswith(message)
    kind = {400: "BadRequestError", 404: "NotFoundError"}[status]
    assert error == {"message": error["message"], "type": kind, "param": error["param"], "code": status}


@pytest.mark.parametrize(
    ("body", "status", "kind"),
    [
        ({"input": "x"}, 400, "BadRequestError"),
        ({}, 400, "BadRequestError"),
        ({"input": PAIR_EXAMPLE, "model": "gpt"}, 404, "NotFoundError"),
    ],
)
def test_what_cannot_be_done_is_told_as_sglang_tells_it(client, body, status, kind):
    answer = client.post("/v1/classify", body)
    assert answer.status_code == status
    error = answer.json()
    assert error.keys() == {"object", "message", "type", "param", "code"}
    assert (error["object"], error["type"], error["code"]) == ("error", kind, status)
