"""Keys, hosts, limits, what nobody expected, and a thousand damaged bodies."""

import json
import logging
import time
from random import Random

import fuzzing
import nightly
import pytest

from tiebreak.serve.bodies import PAIR_EXAMPLE
from tiebreak.serve.keys import Keys

KEYS = Keys.of("a-key-of-16-characters", "another-key-of-many-characters")
COMPARE = "/v1/compare"


class Broken:
    """A judge that fails for a text, in a way that nobody expected."""

    def __init__(self, judge):
        self.judge, self.score_tokens = judge, judge.score_tokens

    def judgements(self, table):
        if any("poison" in turns[0] for turns in table["prompt"].to_pylist()):
            raise KeyError("poison, and a private text")
        return self.judge.judgements(table)


def error_of(answer):
    return answer.json()["error"]


@pytest.mark.parametrize(
    "header", ["Bearer a-key-of-16-characters", "bearer  another-key-of-many-characters"]
)
def test_a_known_key_opens(serve, header):
    client = serve(keys=KEYS)
    assert client.post(COMPARE, PAIR_EXAMPLE, headers={"Authorization": header}).status_code == 200


@pytest.mark.parametrize(
    "header",
    [
        None,
        "Bearer",
        "Bearer a-key-of-16-character",
        "Basic a-key-of-16-characters",
        "Bearer é",
        "Bearer \udcff",
    ],
)
def test_any_other_does_not(serve, header):
    headers = {} if header is None else {"Authorization": header.encode("latin-1", "replace")}
    client = serve(keys=KEYS)
    for path in (COMPARE, "/predict", "/metrics", "/v1/models", "/openapi.json", "/nowhere"):
        answer = client.post(path, PAIR_EXAMPLE, headers=headers)
        assert answer.status_code == 401, path
        assert answer.headers["www-authenticate"] == "Bearer"
    assert client.get("/health", headers=headers).status_code == 200


@pytest.mark.parametrize(
    ("host", "status"),
    [("localhost:8000", 200), ("127.0.0.1", 200), ("[::1]:80", 200), ("evil.example", 403), ("", 403)],
)
def test_a_server_of_this_machine_answers_to_its_names_alone(serve, host, status):
    client = serve(local_only=True)
    assert client.get("/health", headers={"Host": host}).status_code == status


def test_a_page_of_another_site_cannot_ask_without_being_allowed(client):
    answer = client.post(COMPARE, content=json.dumps(PAIR_EXAMPLE), headers={"Content-Type": "text/plain"})
    assert answer.status_code == 422
    assert "Content-Type: application/json" in error_of(answer)["message"]
    assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize(
    ("limits", "path", "body", "message"),
    [
        ({"body_bytes": 60}, COMPARE, PAIR_EXAMPLE, "the body has more than 60 bytes"),
        ({"text_characters": 5}, COMPARE, PAIR_EXAMPLE, "a text has 14 characters; at most 5 are read"),
        ({"text_characters": 5}, "/v1/rank", {"prompt": "x", "responses": ["too long", "y"]}, "a text has 8 characters"),
        ({"pairs": 2}, COMPARE, {"pairs": [PAIR_EXAMPLE] * 3}, "3 pairs in a request; at most 2 are judged"),
        ({"pairs": 2}, "/v1/rank", {"prompt": "x", "responses": ["a", "b", "c"]}, "3 pairs in a request"),
        ({"pairs": 2}, "/rerank", {"query": "x", "documents": ["a", "b", "c"]}, "3 pairs in a request"),
    ],
)  # fmt: skip
def test_limits(serve, limits, path, body, message):
    answer = serve(**limits).post(path, body)
    assert answer.status_code == 413
    assert error_of(answer)["message"].startswith(message)
    assert error_of(answer)["type"] == "RequestTooLargeError"


def test_a_body_in_pieces_is_limited_too(serve):
    async def pieces():
        for _ in range(10):
            yield b" " * 10

    answer = serve(body_bytes=60).post(
        COMPARE, content=pieces(), headers={"Content-Type": "application/json"}
    )
    assert answer.status_code == 413


def test_a_body_that_never_comes_is_not_waited_for(serve):
    async def never():
        import asyncio

        yield b"{"
        await asyncio.sleep(5)

    answer = serve(seconds=0.05).post(COMPARE, content=never())
    assert answer.status_code == 408


def test_what_nobody_expected_fails_alone_and_tells_no_text(serve, judge, caplog):
    client = serve(judges=[Broken(judge)])
    poison = {**PAIR_EXAMPLE, "prompt": "poison"}
    with caplog.at_level(logging.DEBUG):
        bad, *good = client.together((COMPARE, poison), *[(COMPARE, PAIR_EXAMPLE)] * 3)
    assert bad.status_code == 500
    assert error_of(bad)["message"] == "an error of this server, which its log names"
    assert all(answer.status_code == 200 for answer in good)
    assert "unexpected KeyError at " in caplog.text
    assert "poison" not in caplog.text
    assert "private" not in caplog.text
    assert client.post("/predict", {"inputs": ["poison", "x", "y"]}).json() == {
        "error": "an error of this server, which its log names",
        "error_type": "backend",
    }


def test_texts_are_never_logged(client, caplog):
    with caplog.at_level(logging.DEBUG):
        client.post(COMPARE, {**PAIR_EXAMPLE, "prompt": "a secret text"})
        client.post(COMPARE, {"prompt": "a secret text"})
        client.get("/v1/compare?text=a+secret+text")
    ours = [record.getMessage() for record in caplog.records if record.name != "httpx"]
    assert not [message for message in ours if "secret" in message]


def test_errors_of_paths_are_json(client):
    assert error_of(client.get("/nowhere")) == {
        "message": "Not Found",
        "type": "NotFoundError",
        "param": None,
        "code": 404,
    }
    assert client.get(COMPARE).status_code == 405
    assert error_of(client.get(COMPARE))["message"] == "Method Not Allowed"


BODIES = {
    COMPARE: [PAIR_EXAMPLE, {"pairs": [PAIR_EXAMPLE, {**PAIR_EXAMPLE, "prompt": [{"role": "user", "content": "x"}]}]}],
    "/v1/rank": [{"prompt": "x", "responses": ["a", ["b"], [{"role": "assistant", "content": "c"}]], "pairs": 2, "system": "s"}],
    "/classify": [{"input": [PAIR_EXAMPLE, json.dumps(PAIR_EXAMPLE)], "model": "tiny"}],
    "/score": [{"text_1": ["x", "x"], "text_2": ["a", "b"]}],
    "/v2/rerank": [{"query": "x", "documents": ["a", {"text": "b"}, {"content": [{"type": "text", "text": "c"}]}], "top_n": 1}],
    "/predict": [{"inputs": [["x", "a", "b"], PAIR_EXAMPLE], "truncate": False}],
}  # fmt: skip
NESTED = [
    b"[" * 100_000,
    b'{"prompt":' * 5000,
    b'{"prompt": ' + b"9" * 10_000 + b"}",
    b'{"prompt": NaN}',
    b"\xff",
    b"",
]


def damaged(random: Random, body: object) -> bytes:
    """A body with values that are odd or gone, or with other bytes."""
    for _ in range(random.choice((0, 1, 1, 1, 2))):
        body = fuzzing.change(body, random)
    content = json.dumps(body).encode()
    return fuzzing.damage(content, random) if random.random() < 0.3 else content


def fuzz(client, numbers):
    """Send damaged bodies; how many were taken. None may be an error of the server, or one that is not told in JSON."""
    taken = 0
    for number in numbers:
        random = Random(f"body {number}")
        path = random.choice(list(BODIES))
        body = damaged(random, random.choice(BODIES[path]))
        answer = client.post(path, content=body, headers={"Content-Type": "application/json"})
        assert answer.status_code in (200, 400, 404, 413, 422), (
            f"case {number}: {path} {body!r}: {answer.text}"
        )
        assert answer.json(), number
        taken += answer.status_code == 200
    return taken


def test_a_thousand_damaged_bodies(client):
    assert 100 < fuzz(client, range(1000)) < 900


@pytest.mark.nightly
def test_ten_thousand_damaged_bodies(client):
    began = time.monotonic()
    taken = fuzz(client, range(10_000))
    nightly.add("damaged: bodies of requests", 10_000, time.monotonic() - began, f"{taken} could be judged")


@pytest.mark.parametrize("body", NESTED, ids=lambda body: repr(body[:12]))
@pytest.mark.parametrize("path", BODIES)
def test_bodies_that_are_no_json_or_too_much_of_it(client, path, body):
    answer = client.post(path, content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code in (400, 422)
    assert answer.json()["error"]
