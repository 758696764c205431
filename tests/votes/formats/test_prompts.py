"""What belongs to a prompt beside it: no two different prompts become one."""

import json
from typing import Any

import pytest

from tiebreak.votes.formats.dialog import RowError
from tiebreak.votes.formats.prompts import joined
from tiebreak.votes.formats.record_formats import detect_format
from tiebreak.votes.formats.vote import Vote

Row = dict[str, Any]
SIDES = {"response_a": "x", "response_b": "y", "winner": "a"}


def user(text: Any) -> Row:
    return {"role": "user", "content": text}


def bot(text: Any) -> Row:
    return {"role": "assistant", "content": text}


def system(text: Any) -> Row:
    return {"role": "system", "content": text}


def one(record: Row) -> Vote:
    found = detect_format([record], labelled=True)
    assert found is not None
    (vote,) = found[0].votes(record, found[1])
    return vote


def preference(**more: Any) -> Row:
    """A preference whose sides are whole conversations."""
    return {"chosen": [user("p"), bot("x")], "rejected": [user("p"), bot("y")], **more}


EARLIER = [user("hi"), bot("hello")]


@pytest.mark.parametrize(
    "context",
    [EARLIER, json.dumps(EARLIER), [*EARLIER, user("p")], [{"from": "human", "value": "hi"}, bot("hello")]],
)
def test_messages_as_context_are_earlier_turns(context: Any) -> None:
    for prompt in ("p", [user("p")], [*EARLIER, user("p")] if context == EARLIER else "p"):
        vote = one({"prompt": prompt, "context": context, **SIDES})
        assert (vote.prompt, vote.response_a, vote.response_b) == (
            ["hi", "p"],
            ["hello", "x"],
            ["hello", "y"],
        )


@pytest.mark.parametrize(
    ("record", "prompt"),
    [
        ({"prompt": "p", "context": "c"}, ["c\n\np"]),
        ({"instruction": "p", "input": "i", "context": "c", "system": "s"}, ["s\n\nc\n\np\ni"]),
        ({"prompt": "c, so p", "context": "c"}, ["c, so p"]),
        ({"prompt": "p", "context": "[see p. 7] c"}, ["[see p. 7] c\n\np"]),
        ({"prompt": "p", "context": "[]"}, ["p"]),
        ({"prompt": "p", "context": ""}, ["p"]),
        ({"prompt": "p", "context": None}, ["p"]),
        ({"context": "c"}, ["c"]),
        ({"prompt": [system("one"), system("two"), user("p")]}, ["one\n\ntwo\n\np"]),
    ],
)
def test_prompts(record: Row, prompt: list[str]) -> None:
    assert one(record | SIDES).prompt == prompt


def test_a_context_comes_before_the_first_of_several_turns() -> None:
    sides = {"response_a": ["x", "u"], "response_b": ["y", "v"], "winner": "a", "prompt": ["p", "q"]}
    assert one({"context": "c", "system": "s", **sides}).prompt == ["s\n\nc\n\np", "q"]
    for context in (EARLIER, [system([{"text": "s"}])]):
        with pytest.raises(RowError, match="earlier turns, in history or context, beside"):
            one({"context": context, **sides})


@pytest.mark.parametrize("context", [["one", "two"], {"title": "t"}, 7])
def test_a_context_of_another_kind_is_refused(context: Any) -> None:
    with pytest.raises(
        RowError, match=r"context is neither text nor messages \(to leave it out: --map 'prompt=COLUMN'\)"
    ):
        one({"prompt": "p", "context": context, **SIDES})


@pytest.mark.parametrize(
    ("more", "prompt"),
    [
        ({"context": "c"}, ["c\n\np"]),
        ({"context": "p"}, ["p"]),
        ({"context": EARLIER}, ["hi", "p"]),
        ({"context": [*EARLIER, user("p")]}, ["hi", "p"]),
        ({"history": [["hi", "hello"]]}, ["hi", "p"]),
        ({"prompt": "p"}, ["p"]),
        ({"prompt": [user("p")]}, ["p"]),
        ({"prompt": [system("s"), user("p")]}, ["s\n\np"]),
        ({"prompt": [*EARLIER, user("p")], "system": "s"}, ["s\n\nhi", "p"]),
    ],
)
def test_what_stands_beside_whole_conversations(more: Row, prompt: list[str]) -> None:
    vote = one(preference(**more))
    assert vote.prompt == prompt
    assert {vote.response_a[-1], vote.response_b[-1]} == {"x", "y"}


def test_answers_that_are_whole_conversations() -> None:
    sides = {"response_a": [user("p"), bot("x")], "response_b": [user("p"), bot("y")], "winner": "a"}
    assert one({"prompt": [user("p")], **sides}).prompt == ["p"]
    vote = one(
        {"prompt": [*EARLIER, user("p")], "response_a": [bot("hello")], "response_b": "y", "winner": "a"}
    )
    assert (vote.prompt, vote.response_a) == (["hi", "p"], ["hello", "hello"])


def test_a_system_prompt_beside_conversations() -> None:
    conversations = {"conversation_a": [user("p"), bot("x")], "conversation_b": [user("p"), bot("y")]}
    assert one({"system_prompt": "s", "winner": "a", **conversations}).prompt == ["s\n\np"]


def test_messages_are_joined_where_they_overlap() -> None:
    whole = [system("s"), *EARLIER, user("p")]
    for n in range(len(whole)):
        for m in range(n, len(whole)):
            assert joined(whole[:m], whole[n:]) == whole
    assert joined([user("p")], whole) == whole


def test_messages_that_would_be_compared_each_with_each_are_few() -> None:
    before = [user("p"), bot("x")] * 200
    assert len(joined(before, [*before, user("q")])) == 401
    with pytest.raises(RowError, match="more than 1000 messages, with the earlier ones: 1001"):
        joined(before, [*before, *before[:200], user("q")])
