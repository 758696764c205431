"""Routes that tell of the server, and OpenAPI whose examples work."""

import re

import pytest


def test_the_model_is_listed(client):
    (model,) = client.get("/v1/models").json()["data"]
    assert (model["id"], model["object"], model["owned_by"], model["max_model_len"]) == (
        "tiny",
        "model",
        "tiebreak",
        120,
    )


def test_ready_until_asked_to_stop(serve):
    client = serve()
    assert client.get("/ready").json() == {"status": "ready"}
    assert "connection" not in client.get("/health").headers
    client.service.draining = True
    answer = client.get("/ready")
    assert (answer.status_code, answer.headers["connection"]) == (503, "close")
    assert client.get("/health").status_code == 200


def test_health_tells_a_dead_worker(serve):
    client = serve()
    client.service.batcher.__exit__(None, None, None)
    assert client.get("/health").status_code == 503


def test_metrics_count_requests_pairs_and_tokens(serve):
    client = serve()
    usage = client.post("/v1/rank", {"prompt": "x", "responses": ["a", "b", "c"]}).json()["usage"]
    client.post("/v1/rank", {"prompt": "x"})
    client.get("/anything")
    text = client.get("/metrics").text
    found = dict(re.findall(r"^(tiebreak\S+) (\S+)$", text, re.M))
    assert float(found["tiebreak_pairs_judged_total"]) == 3
    assert float(found["tiebreak_tokens_total"]) == usage["prompt_tokens"]
    assert float(found["tiebreak_pairs_in_flight"]) == 0
    assert float(found['tiebreak_requests_total{path="/v1/rank",status="200"}']) == 1
    assert float(found['tiebreak_requests_total{path="/v1/rank",status="422"}']) == 1
    assert float(found['tiebreak_requests_total{path="other",status="404"}']) == 1
    assert float(found['tiebreak_request_seconds_count{path="/v1/rank"}']) == 2


def examples(client):
    """Path and body of every example in the OpenAPI document."""
    document = client.get("/openapi.json").json()
    schemas = document["components"]["schemas"]
    for path, methods in document["paths"].items():
        for operation in methods.values():
            if body := operation.get("requestBody"):
                yield from (
                    (path, example)
                    for example in _examples(body["content"]["application/json"]["schema"], schemas)
                )


def _examples(schema, schemas):
    if "$ref" in schema:
        schema = schemas[schema["$ref"].rpartition("/")[2]]
    yield from schema.get("examples", ())
    for choice in schema.get("oneOf", schema.get("anyOf", ())):
        yield from _examples(choice, schemas)


def test_every_example_works(client):
    found = list(examples(client))
    document = client.get("/openapi.json").json()
    assert {path for path, _ in found} == {
        path for path, methods in document["paths"].items() if "post" in methods
    }
    for path, example in found:
        answer = client.post(path, example)
        assert answer.status_code == 200, (path, answer.text)


@pytest.mark.parametrize("path", ["/docs", "/redoc"])
def test_no_page_loads_anything_from_elsewhere(client, path):
    assert client.get(path).status_code == 404
