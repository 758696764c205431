"""Micro-batches: what waits is judged together, in order, within a budget; a queue that is bounded, and an end without loss."""

from concurrent.futures import wait
from threading import Event

import numpy as np
import pytest

from tiebreak.judge.inputs import read_pairs
from tiebreak.serve import batching
from tiebreak.serve.batching import Batcher, QueueFull, estimated_tokens
from tiebreak.serve.bodies import PAIR_EXAMPLE
from tiebreak.votes.formats.readers import votes_table

COMPARE = "/v1/compare"


class Paused:
    """A judge that waits to be let on, and counts the pairs of each call."""

    def __init__(self, judge, score_tokens=None):
        self.judge, self.score_tokens = judge, score_tokens or judge.score_tokens
        self.go, self.begun, self.calls = Event(), Event(), []

    def judgements(self, table):
        self.calls.append(len(table))
        self.begun.set()
        assert self.go.wait(30)
        return self.judge.judgements(table)


def votes(count):
    """Requests of one pair each."""
    return [list(read_pairs([{**PAIR_EXAMPLE, "prompt": f"Question {n}?"}])) for n in range(count)]


def test_what_waits_is_judged_in_one_call(judge):
    paused = Paused(judge)
    with Batcher([paused], 100) as batcher:
        first, *others = (batcher.submit(one) for one in votes(10)[:1])
        assert paused.begun.wait(30)
        others = [batcher.submit(one) for one in votes(10)[1:]]
        paused.go.set()
        found = [future.result(30).p_NC for future in (first, *others)]
    assert paused.calls == [1, 9]
    assert (batcher.batches, batcher.judged) == (2, 10)
    expected = [judge.predict_table(votes_table(one)) for one in votes(10)]
    np.testing.assert_allclose(np.concatenate(found), np.concatenate(expected), atol=1e-6, rtol=0)


@pytest.mark.parametrize(("seconds", "calls"), [(0.0, [1, 3, 3, 1]), (1e9, [1, 7])])
def test_a_batch_stays_within_the_token_budget_or_the_seconds(judge, monkeypatch, seconds, calls):
    monkeypatch.setattr(batching, "_BATCH_SECONDS", seconds)
    paused = Paused(judge, score_tokens=3 * estimated_tokens(votes(1)[0]))
    with Batcher([paused], 100) as batcher:
        futures = [batcher.submit(votes(1)[0])]
        assert paused.begun.wait(30)
        futures += [batcher.submit(one) for one in votes(7)]
        paused.go.set()
        wait(futures, 30)
    assert paused.calls == calls


def test_a_request_above_the_budget_is_judged_by_itself(judge):
    paused = Paused(judge, score_tokens=1)
    paused.go.set()
    with Batcher([paused], 100) as batcher:
        assert len(batcher.submit(list(read_pairs([PAIR_EXAMPLE] * 3))).result(30)) == 3


def test_leaving_judges_all_that_waits(judge):
    paused = Paused(judge)
    with Batcher([paused], 100) as batcher:
        futures = [batcher.submit(one) for one in votes(5)]
        assert paused.begun.wait(30)
        paused.go.set()
    assert all(future.done() for future in futures)
    assert not batcher.is_alive()


def test_workers_share_the_queue(judge):
    one, other = Paused(judge, score_tokens=1), Paused(judge, score_tokens=1)
    with Batcher([one, other], 100) as batcher:
        futures = [batcher.submit(one) for one in votes(6)]
        assert one.begun.wait(30)
        assert other.begun.wait(30)
        one.go.set()
        other.go.set()
        wait(futures, 30)
    assert sum(one.calls) + sum(other.calls) == 6


def test_room_is_given_back(judge):
    with Batcher([judge], 10) as batcher:
        with batcher.admit(8):
            with pytest.raises(QueueFull):
                batcher.admit(3).__enter__()
            assert batcher.admitted == 8
        assert batcher.admitted == 0


def test_a_full_queue_is_told_with_when_to_come_again(serve, judge):
    paused = Paused(judge)
    client = serve(judges=[paused], most_waiting=2, pairs=2)
    paused.go.set()
    answers = client.together(*[(COMPARE, {"pairs": [PAIR_EXAMPLE] * 2})] * 3)
    assert sorted(answer.status_code for answer in answers) == [200, 429, 429]
    full = next(answer for answer in answers if answer.status_code == 429)
    assert int(full.headers["retry-after"]) >= 1
    assert full.json()["error"]["type"] == "RateLimitError"
    assert client.post(COMPARE, PAIR_EXAMPLE).status_code == 200, "there is room again"
    full = client.together(*[("/predict", {"inputs": ["x", "a", "b"]})] * 3)
    assert {answer.json()["error_type"] for answer in full if answer.status_code == 429} == {"overloaded"}


@pytest.mark.parametrize(
    ("path", "body"), [(COMPARE, PAIR_EXAMPLE), ("/v1/rank", {"prompt": "x", "responses": ["a", "b"]})]
)
def test_a_late_answer_is_told_and_not_judged(serve, judge, path, body):
    paused = Paused(judge)
    client = serve(judges=[paused], seconds=0.1)
    answers = client.together((path, body), (path, body))
    assert [answer.status_code for answer in answers] == [504, 504]
    assert client.service.batcher.admitted == 0
    paused.go.set()
    client.service.limits = type(client.service.limits)()
    assert client.post(path, body).status_code == 200
    assert sum(paused.calls) <= 3, "what nobody waits for is left out, but for what had begun"


def test_a_text_that_the_model_cannot_take_is_told_alone(serve, judge):
    from tiebreak.errors import TiebreakError

    class Picky(Paused):
        def judgements(self, table):
            if any("odd" in turns[0] for turns in table["prompt"].to_pylist()):
                raise TiebreakError("this text cannot be judged")
            return judge.judgements(table)

    client = serve(judges=[Picky(judge)])
    bad, good = client.together((COMPARE, {**PAIR_EXAMPLE, "prompt": "odd"}), (COMPARE, PAIR_EXAMPLE))
    assert (bad.status_code, good.status_code) == (422, 200)
    assert bad.json()["error"]["message"] == "this text cannot be judged"
