"""Pairs to vote on: handed out the most informative first, each until it has a vote, from whichever server."""

import json

import numpy as np
import pytest

from tiebreak.errors import Interrupted, TiebreakError
from tiebreak.judge import committee
from tiebreak.judge.inputs import as_table
from tiebreak.serve.keys import Keys
from tiebreak.serve.to_vote import PairsToVote, in_order
from tiebreak.serve.votes import VotesFile
from tiebreak.stats.acquisition import disagreement
from tiebreak.votes import annotations
from tiebreak.votes.formats.mapping import ColumnMap
from tiebreak.votes.formats.readers import read_whole

NEXT, VOTES = "/v1/votes/next", "/v1/votes"
PAIRS = [{"prompt": f"Question {n}?", "response_a": f"yes {n}", "response_b": "no"} for n in range(3)]
TURNS = {"prompt": ["Hi", "Name?"], "response_a": ["Hello", "Ada"], "response_b": ["Yes", None]}


@pytest.fixture
def file(tmp_path):
    return VotesFile(tmp_path / "votes.jsonl")


@pytest.fixture
def asking(serve, file):
    return serve(votes=file, to_vote=PairsToVote(as_table([*PAIRS, TURNS])[0], file))


def ask(client):
    found = client.get(NEXT)
    assert found.status_code == 200, found.text
    return found.json()


def test_pairs_come_in_their_order_as_requests_have_them_and_again_in_the_end(asking):
    assert [ask(asking) for _ in range(5)] == [
        {"pair": pair, "left": 4} for pair in (*PAIRS, TURNS, PAIRS[0])
    ]


def test_a_pair_with_a_vote_is_not_asked_for_again(asking):
    for left, pair in ((4, PAIRS[0]), (3, PAIRS[1]), (2, PAIRS[2]), (1, TURNS)):
        assert ask(asking) == {"pair": pair, "left": left}
        assert asking.post(VOTES, {**pair, "winner": "tie"}).status_code == 200
    assert ask(asking) == ask(asking) == {"pair": None, "left": 0}


def test_votes_of_before_and_of_other_servers_count_whichever_answer_is_a(serve, tmp_path):
    path = tmp_path / "votes.jsonl"
    swapped = {**PAIRS[0], "response_a": "no", "response_b": "yes 0", "winner": "a"}
    path.write_text(
        json.dumps(swapped) + "\n" + '{"prompt": "torn\n' + "[1]\n" + json.dumps({"prompt": 3}) + "\n"
    )
    file = VotesFile(path)
    client = serve(votes=file, to_vote=PairsToVote(as_table(PAIRS)[0], file))
    assert ask(client) == {"pair": PAIRS[1], "left": 2}
    VotesFile(path).add({**PAIRS[2], "winner": "b"})
    assert ask(client) == {"pair": PAIRS[1], "left": 1}


def test_votes_have_the_id_and_models_of_their_pair_which_voters_are_not_told(serve, judge, tmp_path):
    """Two people vote on one pair, one of them with the answers the other way round."""
    named = [{**PAIRS[0], "id": "q7", "model_a": "ada", "model_b": "bob"}, PAIRS[1]]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in named))
    file = VotesFile(tmp_path / "votes.jsonl")
    client = serve(votes=file, to_vote=PairsToVote(in_order(judge, tmp_path / "pairs.jsonl"), file))
    handed = [ask(client)["pair"] for _ in range(2)]
    assert sorted(handed, key=lambda pair: pair["prompt"]) == PAIRS[:2]
    swapped = {**PAIRS[0], "response_a": "no", "response_b": "yes 0"}
    for vote in ({**PAIRS[0], "winner": "a"}, {**swapped, "winner": "b"}, {**PAIRS[2], "winner": "tie"}):
        assert not {"ada", "bob", "q7"} & set(client.post(VOTES, vote).text.split('"'))
    names = ("model_a", "model_b", "p_a", "p_b")
    first, second, elsewhere = read_whole(file.path, "votes").to_pylist()
    assert [first[name] for name in ("id", *names)] == ["q7", "ada", "bob", 1, 0]
    assert [second[name] for name in names] == ["bob", "ada", 0, 1]
    assert second["id"].startswith("q7-")
    assert [elsewhere[name] for name in names] == [None, None, 0, 0]
    pairs = annotations.read([file.path])
    assert pairs.pairs["id"].to_pylist()[0] == "q7"
    assert pairs.pair_N.tolist() == [0, 0, 1]
    assert pairs.y_NC[:2].tolist() == [[1, 0, 0]] * 2


def test_the_pairs_of_a_comparison_are_voted_on_and_come_back_to_it(
    serve, judge, shipped, tiebreak, tmp_path
):
    """Answers that are empty, alike, or with space at their ends; a prompt of two turns. Of pairs with the same texts one is asked."""
    answers = {
        "Why?": {"ada": "so", "bob": "so", "cyd": ""},
        "How?": {"ada": " well\n", "bob": "- a\n- b ", "cyd": "<b>"},
    }
    outputs = [
        {"instruction": prompt, "output": text, "generator": model}
        for prompt, of_models in answers.items()
        for model, text in of_models.items()
    ]
    source, to_vote = tmp_path / "outputs.json", tmp_path / "next.jsonl"
    source.write_text(json.dumps(outputs))
    turns = tmp_path / "turns.jsonl"
    turns.write_text(json.dumps(TURNS | {"model_a": "ada", "model_b": "bob"}))
    code, _, err = tiebreak("compare", shipped, source, turns, "--next", to_vote)
    assert code == 0, err
    file = VotesFile(tmp_path / "votes.jsonl")
    client = serve(votes=file, to_vote=PairsToVote(in_order(judge, to_vote), file))
    left = ask(client)["left"]
    assert len(to_vote.read_text().splitlines()) == 7
    assert left == 6, "cyd against ada is cyd against bob"
    while (asked := ask(client))["pair"]:
        answer = client.post(VOTES, {**asked["pair"], "winner": "ab"[asked["left"] % 2], "shown_first": "b"})
        assert answer.status_code == 200, answer.text
    votes = read_whole(file.path, "votes").to_pylist()
    assert len(votes) == left
    names = {text: model for of_models in answers.values() for model, text in of_models.items()}
    for vote in votes:
        for side in "ab":
            (*_, text) = vote[f"response_{side}"]
            assert vote["prompt"] != ["How?"] or vote[f"model_{side}"] == names[text]
    code, shown, err = tiebreak("compare", shipped, source, turns, "--votes", file.path, "--json")
    assert code == 0, err
    found = json.loads(shown)
    assert found["worth"]["votes"] == left
    assert found["remarks"] == [remark for remark in found["remarks"] if "answer to" in remark]


def test_a_vote_on_equal_answers_has_their_models_as_the_pair_does(serve, tmp_path):
    outputs = [
        {"prompt": "Why?", "response_a": "same", "response_b": "same", "model_a": "ada", "model_b": "bob"}
    ]
    file = VotesFile(tmp_path / "votes.jsonl")
    client = serve(votes=file, to_vote=PairsToVote(as_table(outputs)[0], file))
    assert client.post(VOTES, {**ask(client)["pair"], "winner": "tie"}).status_code == 200
    (vote,) = read_whole(file.path, "votes").to_pylist()
    assert (vote["model_a"], vote["model_b"]) == ("ada", "bob")


def test_equal_pairs_are_one(serve, file):
    client = serve(votes=file, to_vote=PairsToVote(as_table([PAIRS[0], PAIRS[0]])[0], file))
    assert ask(client)["left"] == 1


def test_without_pairs_or_a_key_nothing_is_asked(serve, file):
    assert serve(votes=file).get(NEXT).status_code == 404
    client = serve(
        votes=file, to_vote=PairsToVote(as_table(PAIRS)[0], file), keys=Keys.of("a-key-of-16-characters")
    )
    assert client.get(NEXT).status_code == 401
    assert client.get("/page.json").json() == {"model": "tiny", "votes": True, "pairs": True}


def test_the_order_is_a_draw_by_disagreement(judge, tmp_path):
    many = [{"q": f"Question {n}?", "response_a": f"yes {n}", "response_b": "no" * n} for n in range(1, 30)]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in many))
    found = in_order(judge, tmp_path / "pairs.jsonl", ColumnMap({"prompt": "q"}))
    assert sorted(found["prompt"].to_pylist()) == sorted([pair["q"]] for pair in many)
    told_N = disagreement(committee.predictions(judge, found))
    assert np.corrcoef(told_N, np.arange(29))[0, 1] < 0
    with pytest.raises(Interrupted):
        in_order(judge, tmp_path / "pairs.jsonl", ColumnMap({"prompt": "q"}), lambda: True)


@pytest.mark.parametrize("content", ["", "{}\n", '{"prompt": "x"}\n'])
def test_files_that_hold_no_pairs(judge, tmp_path, content):
    (tmp_path / "pairs.jsonl").write_text(content)
    with pytest.raises(TiebreakError, match=r"pairs\.jsonl"):
        in_order(judge, tmp_path / "pairs.jsonl")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--pairs", "p.jsonl"), "name the file that these go to with --votes-file"),
        (("--map", "prompt=q"), "--map names the columns of --pairs"),
        (("--pairs", "gone.jsonl", "--votes-file", "v.jsonl"), "gone.jsonl"),
    ],
)
def test_options_that_do_not_go_together(tiebreak, shipped, options, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, err = tiebreak("serve", shipped, "--port", 0, "--device", "cpu", *options)
    assert (code, out) == (2, "")
    assert message in err.splitlines()[-1]
