"""Votes of the page's users: written whole, read by this project, answered by the judge's opinion."""

import json
import os
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context

import pytest

from tiebreak.errors import TiebreakError
from tiebreak.serve.bodies import PAIR_EXAMPLE
from tiebreak.serve.votes import VotesFile
from tiebreak.votes.formats.readers import read_whole

VOTES = "/v1/votes"
VOTE = {**PAIR_EXAMPLE, "winner": "b", "shown_first": "b"}


@pytest.fixture
def file(tmp_path):
    return tmp_path / "votes.jsonl"


@pytest.fixture
def voting(serve, file):
    return serve(votes=VotesFile(file))


def test_a_vote_is_written_and_answered(voting, file, judge):
    answer = voting.post(VOTES, VOTE)
    assert answer.status_code == 200, answer.text
    comparison = answer.json()["comparison"]
    assert [comparison[name] for name in ("p_a", "p_b", "p_tie")] == judge.predict([PAIR_EXAMPLE])[0].tolist()
    (written,) = map(json.loads, file.read_text().splitlines())
    assert written == VOTE | {"id": written["id"], "voted_at": written["voted_at"]}


def test_votes_are_read_as_any_others(voting, file):
    turns = {"prompt": ["Hi", "Name?"], "response_a": ["Hello", "Ada"], "response_b": ["Yes", None]}
    messages = {**PAIR_EXAMPLE, "prompt": [{"role": "user", "content": "Why?"}], "system": "You are terse."}
    for pair, winner in ((PAIR_EXAMPLE, "a"), (turns, "tie"), (messages, "b")):
        assert voting.post(VOTES, {**pair, "winner": winner}).status_code == 200
    table = read_whole(file, "votes")
    assert [table[name].to_pylist() for name in ("p_a", "p_b", "p_tie")] == [[1, 0, 0], [0, 0, 1], [0, 1, 0]]
    assert table["prompt"].to_pylist() == [["Is it raining?"], ["Hi", "Name?"], ["You are terse.\n\nWhy?"]]


def test_export_gives_whole_lines(voting, file):
    voting.post(VOTES, VOTE)
    with file.open("ab") as torn:
        torn.write(b'{"prompt": "torn')
    answer = voting.get(VOTES)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/x-ndjson")
    assert len(answer.text.splitlines()) == 1
    voting.post(VOTES, VOTE)
    assert [line.startswith("{") and line.endswith("}") for line in file.read_text().splitlines()] == [
        True,
        False,
        True,
    ]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (PAIR_EXAMPLE, "winner: Field required"),
        ({**VOTE, "winner": "c"}, "winner: Input should be 'a', 'b' or 'tie'"),
        ({**VOTE, "voter": "me"}, "voter: Extra inputs are not permitted"),
        ({**VOTE, "prompt": ["a", "b"]}, "pair 0: turn counts differ"),
    ],
)
def test_what_is_no_vote_is_not_written(voting, file, body, message):
    answer = voting.post(VOTES, body)
    assert answer.status_code == 422
    assert answer.json()["error"]["message"].startswith(message)
    assert file.read_bytes() == b""


def test_a_vote_that_cannot_be_written_is_told(voting, file, caplog):
    file.unlink()
    file.mkdir()
    answer = voting.post(VOTES, VOTE)
    assert answer.status_code == 503
    assert answer.json()["error"]["message"] == "the vote could not be written; the server's log says why"
    assert "cannot write to the file of votes" in caplog.text or "is a folder" in caplog.text


def test_without_a_file_nobody_votes(client):
    assert client.post(VOTES, VOTE).status_code == 404
    assert client.get(VOTES).status_code == 404


def test_a_full_disk_leaves_no_half_of_a_vote(file, monkeypatch):
    votes = VotesFile(file)
    votes.add({"n": 1})
    whole = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, text: whole(descriptor, text[:5]))
    with pytest.raises(TiebreakError, match="No space left on device"):
        votes.add({"n": 2})
    monkeypatch.undo()
    votes.add({"n": 3})
    assert file.read_text() == '{"n": 1}\n{"n": 3}\n'


def add_many(path, writer):
    votes = VotesFile(path)
    for n in range(50):
        votes.add({"writer": writer, "n": n, "text": "x" * 5000})


def test_writers_of_one_file_do_not_mix(file):
    """Threads of one server, and several servers."""
    votes = VotesFile(file)
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda n: votes.add({"writer": 9, "n": n}), range(50)))
    others = [get_context("fork").Process(target=add_many, args=(file, writer)) for writer in range(3)]
    for process in others:
        process.start()
    for process in others:
        process.join()
    found = sorted((vote["writer"], vote["n"]) for vote in map(json.loads, file.read_text().splitlines()))
    assert found == sorted([(writer, n) for writer in (0, 1, 2, 9) for n in range(50)])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: path.with_suffix(".csv"), "cannot write .*: Valid: .jsonl"),
        (lambda path: path.mkdir() or path, "it is a folder"),
        (lambda path: path.symlink_to("elsewhere") or path, "cannot write to the file of votes"),
        (lambda path: os.mkfifo(path) or path, "is a pipe, not a file"),
    ],
)
def test_places_that_take_no_votes(file, make, message):
    with pytest.raises(TiebreakError, match=message):
        VotesFile(make(file))
