"""Every operation of the OpenAPI document, by requests that schemathesis makes of it, right and wrong ones."""

import time

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
EXCLUDED = [positive_data_acceptance]
"""What a pair is depends on its fields together, such as the turns of its prompt and answers, which no schema says."""


@pytest.fixture(scope="module")
def openapi(serve, tmp_path_factory):
    votes = VotesFile(tmp_path_factory.mktemp("openapi") / "votes.jsonl")
    pairs = PairsToVote(as_table([PAIR_EXAMPLE])[0], votes)
    return schemathesis.openapi.from_asgi("/openapi.json", serve(votes=votes, to_vote=pairs).app)


def check(operation, mode, examples: int) -> None:
    """Send requests that a schema allows, or ones that it does not; the answers are those that the document names."""

    @settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(case=operation.as_strategy(generation_mode=mode))
    def answered(case):
        case.call_and_validate(excluded_checks=EXCLUDED)

    answered()


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
