"""Published datasets, each as a small made-up file of its shape, read without a mapping: the right side always wins."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tiebreak.votes.formats import pairs, readers
from tiebreak.votes.formats.dialog import RowError
from tiebreak.votes.formats.named_datasets import swift_preference, tags

A, B, TIE = [1, 0, 0], [0, 1, 0], [0, 0, 1]
Row = dict[str, Any]


def user(text: Any) -> Row:
    return {"role": "user", "content": text}


def bot(text: Any) -> Row:
    return {"role": "assistant", "content": text}


def parts(text: str) -> list[Row]:
    """Content as LM Arena has it since 2025."""
    return [{"type": "text", "text": text, "image": None, "mimeType": None}]


def read(path: Path, rows: list[Row], role: Any = "votes") -> list[Row]:
    """The votes of these rows as a file by its ending, none of them rejected, each with its probabilities as `p`."""
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        path.write_text(json.dumps(rows))
    votes = readers.read_whole(path, role).to_pylist()
    return [vote | {"p": [vote["p_a"], vote["p_b"], vote["p_tie"]]} for vote in votes]


def test_alpaca_eval(tmp_path: Path) -> None:
    def row(n: int, preference: float) -> Row:
        return {
            "instruction": f"Ask {n}", "output_1": f"one {n}", "generator_1": "base", "output_2": f"two {n}",
            "generator_2": "new", "annotator": "gpt4", "preference": preference,
        }  # fmt: skip

    votes = read(tmp_path / "annotations.json", [row(n, p) for n, p in enumerate((1, 2.0, 1.5, 1.25))])
    assert [vote["p"] for vote in votes] == [A, B, TIE, [0.75, 0.25, 0]]
    assert votes[0]["prompt"] == ["Ask 0"]
    assert (votes[1]["response_a"], votes[1]["response_b"]) == (["one 1"], ["two 1"])
    assert (votes[0]["model_a"], votes[0]["model_b"]) == ("base", "new")


def test_votes_in_our_own_schema_keep_session_and_tags(tmp_path: Path) -> None:
    vote = {
        "id": "1", "prompt": ["p"], "response_a": ["x"], "response_b": ["y"], "model_a": None, "model_b": None,
        "p_a": 1.0, "p_b": 0.0, "p_tie": 0.0, "weight": 2.0, "session": "s", "tags": ["language: German"],
    }  # fmt: skip
    for n, name in enumerate(("f.json", "f.parquet")):
        (again,) = read(tmp_path / name, [vote])
        assert (again["session"], again["tags"], again["weight"]) == ("s", ["language: German"], 2.0)
        (other,) = read(tmp_path / name, [vote | {"session": None, "tags": None}])
        assert (other["session"], other["tags"]) == (None, None)
        (foreign,) = read(tmp_path / f"{n}.json", [{key: vote[key] for key in vote if key != "tags"}])
        assert foreign["session"] is None
    (text,) = read(tmp_path / "f.json", [vote | {"tags": '["code"]'}])
    assert text["tags"] == ["code"]
    with pytest.raises(RowError, match="tags is no list of texts"):
        tags(vote | {"tags": [1]})


@pytest.mark.parametrize(
    "scores",
    [
        {"chosen_rating": 4.0, "rejected_rating": 4.0},  # Tulu 3, OLMo 2
        {"rating_chosen": 5, "rating_rejected": 5},  # distilabel-capybara
        {"rating": [5, 5], "status": "tie", "chosen_score": 5},  # distilabel-intel-orca
    ],
)
def test_preferences_that_are_ties(tmp_path: Path, scores: Row) -> None:
    (vote,) = read(
        tmp_path / "f.json", [{"prompt": "p", "chosen": "x", "rejected": "y", **scores}], "preferences"
    )
    assert vote["p"] == TIE


@pytest.mark.parametrize("preference", [0, 3, -1, True])
def test_preferences_outside_of_alpaca_evals_scale_are_no_labels(tmp_path: Path, preference: Any) -> None:
    path = tmp_path / "annotations.json"
    row = {"instruction": "p", "output_1": "x", "output_2": "y", "preference": preference}
    path.write_text(json.dumps([row]))
    _, rejects = readers.read_all([path])
    assert rejects["kind"].to_pylist()[0].startswith(f"unknown winner: {preference!r}; valid: a, b, tie")


def test_ppe_human_preference(tmp_path: Path) -> None:
    rows = [
        {
            "question_id": f"q{n}", "model_a": "m", "model_b": "n", "winner": winner, "prompt": f"Ask {n}",
            "response_1": "first", "response_2": "second", "language": "German", "is_code": n == 0,
            "hard_prompt": True, "conv_metadata": {"turns": 1},
        }
        for n, winner in enumerate(("model_a", "model_b", "tie", "tie (bothbad)"))
    ]  # fmt: skip
    votes = read(tmp_path / "ppe.parquet", rows)
    assert [vote["p"] for vote in votes] == [A, B, TIE, TIE]
    assert (votes[0]["response_a"], votes[0]["response_b"]) == (["first"], ["second"])
    assert [vote["tags"] for vote in votes[:2]] == [
        ["language: German", "code"],
        ["language: German", "no code"],
    ]


def test_helpsteer3(tmp_path: Path) -> None:
    def row(score: int) -> Row:
        individual = [{"score": 3, "reasoning": "r", "feedback1": "f", "feedback2": "g"}]
        return {
            "domain": "stem", "language": "english",
            "context": [user("Why?"), bot("So."), user(f"And {score}?")],
            "response1": "first", "response2": "second",
            "overall_preference": score, "individual_preference": individual,
        }  # fmt: skip

    votes = read(tmp_path / "train.json", [row(score) for score in (-3, -1, 0, 2)])
    assert [vote["p"] for vote in votes] == [A, A, TIE, B]
    assert votes[0]["prompt"] == ["Why?", "And -3?"]
    assert (votes[0]["response_a"], votes[0]["response_b"]) == (["So.", "first"], ["So.", "second"])
    assert votes[0]["tags"] == ["language: english", "domain: stem"]


def test_pandalms_annotators_are_one_soft_label(tmp_path: Path) -> None:
    def row(n: int, *annotators: int | None) -> Row:
        shown = {f"annotator{k}": vote for k, vote in enumerate(annotators, 1)}
        return {"instruction": f"Do {n}", "input": "this", "response1": "x", "response2": "y", **shown}

    votes = read(tmp_path / "testset.json", [row(1, 1, 1, 1), row(2, 2, 2, 0), row(3, 1, None, 2)])
    assert [vote["p"] for vote in votes] == [A, pytest.approx([0, 2 / 3, 1 / 3]), [0.5, 0.5, 0]]
    assert votes[0]["prompt"] == ["Do 1\nthis"]
    assert votes[0]["response_a"] == ["x"]


def swift(**rejected: Any) -> Row:
    return {
        "messages": [
            {"role": "system", "content": "Be short."},
            user("1+1?"),
            bot("2"),
            user("2+2?"),
            bot("4"),
        ]
    } | rejected


@pytest.mark.parametrize(
    "rejected",
    [
        {"rejected_response": "5"},
        {"rejected_response": [bot("5")]},
        {"rejected_messages": [bot("5")]},
        {"rejected_messages": [{"role": "system", "content": "Be short."}, user("1+1?"), bot("2"), user("2+2?"), bot("5")]},
    ],
)  # fmt: skip
def test_ms_swift(tmp_path: Path, rejected: Row) -> None:
    (vote,) = read(tmp_path / "dpo.json", [swift(**rejected)], "preferences")
    sides = [vote["response_a"], vote["response_b"]]
    assert vote["prompt"] == ["Be short.\n\n1+1?", "2+2?"]
    assert sorted(sides) == [["2", "4"], ["2", "5"]]
    assert vote["p"][sides.index(["2", "4"])] == 1
    (pair,) = pairs.read_file(tmp_path / "dpo.json")
    assert pair.preference
    assert pair.vote is not None
    assert (pair.vote.response_b if pair.swapped else pair.vote.response_a) == ["2", "4"]


@pytest.mark.parametrize(
    ("record", "why"),
    [
        ({"messages": "[1]", "rejected_response": "5"}, "messages is not a list of messages"),
        ({"messages": [user("1+1?")], "rejected_response": "5"}, "messages ends without an answer"),
        (swift(rejected_response=""), "no rejected_response and no rejected_messages"),
        (swift(rejected_response=5), "the rejected answer is neither text nor messages"),
    ],
)
def test_what_is_no_preference_of_ms_swift(record: Row, why: str) -> None:
    with pytest.raises(RowError, match=why):
        swift_preference(record)


def test_mt_bench_is_read_up_to_the_turn_of_the_vote(tmp_path: Path) -> None:
    rows = [
        {
            "question_id": 81, "model_a": "m", "model_b": "n", "winner": winner, "judge": "author_2", "turn": turn,
            "conversation_a": [user("Write."), bot("a1"), user("Again."), bot("a2")],
            "conversation_b": [user("Write."), bot("b1"), user("Again."), bot("b2")],
        }
        for turn, winner in ((1, "model_a"), (2, "model_b"), (2, "tie"))
    ]  # fmt: skip
    first, second, again = read(tmp_path / "human.parquet", rows)
    assert (first["prompt"], first["response_a"], first["response_b"]) == (["Write."], ["a1"], ["b1"])
    assert (second["prompt"], second["response_b"]) == (["Write.", "Again."], ["b1", "b2"])
    assert [vote["p"] for vote in (first, second, again)] == [A, B, TIE]


def test_the_judge_of_mt_bench_may_contradict_itself(tmp_path: Path) -> None:
    conversation = [user("p"), bot("x"), user("q"), bot("y")]
    rows = [
        {
            "question_id": 81, "model_a": "m", "model_b": "n", "winner": winner, "judge": ["gpt-4", "pair-v2"],
            "conversation_a": conversation, "conversation_b": conversation, "turn": 2,
        }
        for winner in ("model_b", "tie", "tie (inconsistent)")
    ]  # fmt: skip
    assert [vote["p"] for vote in read(tmp_path / "gpt4_pair.parquet", rows)] == [B, TIE, TIE]


@pytest.mark.parametrize("turn", ["1", 1.0])
def test_a_turn_of_mt_bench_may_be_written_as_text_or_fraction(tmp_path: Path, turn: Any) -> None:
    conversation = [user("p"), bot("x"), user("q"), bot("y")]
    row = {
        "conversation_a": conversation,
        "conversation_b": conversation,
        "winner": "a",
        "judge": "j",
        "turn": turn,
    }
    assert read(tmp_path / "f.json", [row])[0]["prompt"] == ["p"]
    (tmp_path / "f.json").write_text(json.dumps([row | {"turn": "first"}]))
    assert readers.read_all([tmp_path / "f.json"])[1]["kind"].to_pylist() == ["turn is not a number"]


def arena_turn(n: int) -> Row:
    return {
        "user": user(parts(f"q{n}")),
        "model_side_a": bot(parts(f"a{n}")),
        "model_side_b": bot(parts(f"b{n}")),
    }


def arena(winner: str, order: int, session: str = "s1") -> Row:
    tag = {"math_v0.1": {"math": False}, "if_v0.1": {"if": True, "score": 4}}
    return {
        "id": f"{session}-{order}", "model_a": "m", "model_b": "n", "winner": winner,
        "evaluation_session_id": session, "evaluation_order": order,
        "conversation_a": [user(parts(f"q{order}")), bot(parts(f"a{order}"))],
        "conversation_b": [user(parts(f"q{order}")), bot(parts(f"b{order}"))],
        "full_conversation": [arena_turn(n) for n in range(1, order + 1)],
        "conv_metadata": {"sum_assistant_a_tokens": 3}, "category_tag": tag, "language": "en", "is_code": False,
    }  # fmt: skip


def test_arena_140k(tmp_path: Path) -> None:
    rows = [arena(winner, n) for n, winner in enumerate(("model_a", "model_b", "both_bad"), 1)]
    first, _, third = votes = read(tmp_path / "train.parquet", rows)
    assert (first["prompt"], first["response_a"], first["response_b"]) == (["q1"], ["a1"], ["b1"])
    assert third["prompt"] == ["q1", "q2", "q3"]
    assert (third["response_a"], third["response_b"]) == (["a1", "a2", "a3"], ["b1", "b2", "b3"])
    assert [vote["p"] for vote in votes] == [A, B, TIE]
    assert {vote["session"] for vote in votes} == {"s1"}
    assert first["tags"] == ["language: en", "no code", "category: if"]


def test_a_full_conversation_that_does_not_hold_the_votes_turns_adds_nothing(tmp_path: Path) -> None:
    row = arena("model_a", 2) | {"full_conversation": [arena_turn(7), arena_turn(8)]}
    (vote,) = read(tmp_path / "train.parquet", [row])
    assert (vote["prompt"], vote["response_a"]) == (["q2"], ["a2"])


def test_turns_after_the_vote_are_left_out(tmp_path: Path) -> None:
    row = arena("model_a", 1) | {"full_conversation": [arena_turn(1), arena_turn(2)]}
    assert read(tmp_path / "train.parquet", [row])[0]["prompt"] == ["q1"]


def test_arena_expert_5k_has_its_conversations_as_json(tmp_path: Path) -> None:
    row = arena("model_b", 2)
    row |= {name: json.dumps(row[name]) for name in ("conversation_a", "conversation_b", "full_conversation")}
    row |= {"occupational_tags": {"mathematical": True, "writing_and_literature_and_language": False}}
    del row["evaluation_session_id"], row["category_tag"]
    (vote,) = read(tmp_path / "expert.parquet", [row])
    assert (vote["prompt"], vote["response_b"], vote["p"]) == (["q1", "q2"], ["b1", "b2"], B)
    assert (vote["session"], vote["tags"]) == (None, ["language: en", "no code", "occupation: mathematical"])


def test_tags_of_odd_values() -> None:
    assert tags({"language": 7, "is_code": "yes", "category_tag": "math", "domain": ""}) is None
    assert tags({"category_tag": {"x_v1": {"hard_ones": True}}}) == ["category: hard ones"]
