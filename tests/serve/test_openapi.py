"""Every operation of the OpenAPI document, by requests that schemathesis makes of it, right and wrong ones: each alone, and one
after another along the links of the document.
"""

import json
import time
from collections import Counter

import nightly
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance

from tiebreak.judge.inputs import as_table
from tiebreak.serve.bodies import PAIR_EXAMPLE
from tiebreak.serve.to_vote import PairsToVote
from tiebreak.serve.votes import VotesFile

PATHS = ("/v1/compare", "/v1/rank", "/classify", "/v1/classify", "/score", "/rerank", "/predict", "/v1/votes")
PAIRS = 300
"""Pairs to vote on: more than a test takes."""
EXCLUDED = [positive_data_acceptance]
"""What a pair is depends on its fields together, such as the turns of its prompt and answers, which no schema says."""


@pytest.fixture(scope="module")
def openapi(serve, tmp_path_factory):
    votes = VotesFile(tmp_path_factory.mktemp("openapi") / "votes.jsonl")
    pairs = PairsToVote(as_table([PAIR_EXAMPLE])[0], votes)
    return schemathesis.openapi.from_asgi("/openapi.json", serve(votes=votes, to_vote=pairs).app)


@pytest.fixture
def votes(tmp_path):
    return VotesFile(tmp_path / "votes.jsonl")


@pytest.fixture
def linked(serve, votes):
    """The document of a server with pairs to vote on."""
    pairs = [PAIR_EXAMPLE | {"prompt": f"Is it raining in {n}?", "id": str(n)} for n in range(PAIRS)]
    app = serve(votes=votes, to_vote=PairsToVote(as_table(pairs)[0], votes)).app
    return schemathesis.openapi.from_asgi("/openapi.json", app)


def check(operation, mode, examples: int) -> None:
    """Send requests that a schema allows, or ones that it does not; the answers are those that the document names."""

    @settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(case=operation.as_strategy(generation_mode=mode))
    def answered(case):
        case.call_and_validate(excluded_checks=EXCLUDED)

    answered()


def walk(openapi, votes, walks: int) -> Counter:
    """Follow the links for `walks` times ten steps; how often each operation was answered with 200, and what is in the file."""
    answered = Counter()

    class Walk(openapi.as_state_machine()):
        def after_call(self, response, case):
            super().after_call(response, case)
            if response.status_code != 200:
                return
            answered[case.operation.label] += 1
            if case.operation.label == "GET /v1/votes":
                assert len(response.text.splitlines()) == answered["POST /v1/votes"]
            elif case.operation.label == "GET /v1/votes/next":
                assert response.json()["left"] == PAIRS - len(voted(votes))

        def validate_response(self, response, case, **options):
            case.validate_response(response, excluded_checks=EXCLUDED, recorder=self.recorder)

    Walk.run(
        settings=settings(
            max_examples=walks,
            stateful_step_count=10,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            database=None,
            derandomize=True,
        )
    )
    return answered


def voted(votes) -> set[str]:
    """The ids of the pairs that were handed out and voted on."""
    return {
        vote["question_id"] for vote in map(json.loads, votes.read().splitlines()) if "question_id" in vote
    }


def require_walked(answered, votes) -> None:
    """The links were followed: pairs handed out were voted on, and votes exported."""
    assert {"GET /v1/votes/next", "GET /v1/votes"} <= set(answered), answered
    assert len(voted(votes)) >= 3, answered


@pytest.mark.slow
def test_links(linked, votes):
    require_walked(walk(linked, votes, 20), votes)


@pytest.mark.nightly
def test_links_at_length(linked, votes):
    began = time.monotonic()
    answered = walk(linked, votes, 200)
    require_walked(answered, votes)
    nightly.add(
        "walks along the links of the OpenAPI document",
        200,
        time.monotonic() - began,
        f"{answered.total()} requests answered with 200",
    )


@pytest.mark.slow
@pytest.mark.parametrize("mode", list(GenerationMode))
@pytest.mark.parametrize("path", PATHS)
def test_operation(openapi, path, mode):
    check(openapi[path]["POST"], mode, 10)


@pytest.mark.nightly
@pytest.mark.parametrize("mode", list(GenerationMode))
@pytest.mark.parametrize("path", PATHS)
def test_operation_at_length(openapi, path, mode):
    began = time.monotonic()
    check(openapi[path]["POST"], mode, 100)
    nightly.add("requests made of the OpenAPI document", 100, time.monotonic() - began, "by schemathesis")
