import json

import pytest

from tiebreak.limits import RAISE
from tiebreak.votes.formats.dialog import RowError, dialog, transcript
from tiebreak.votes.formats.labels import label
from tiebreak.votes.formats.record_formats import detect_format

A, B, TIE = (1, 0, 0), (0, 1, 0), (0, 0, 1)


def user(text):
    return {"role": "user", "content": text}


def bot(text):
    return {"role": "assistant", "content": text}


def read(record, labelled=True, **changes):
    record_format, options = detect_format([record], labelled)
    return record_format.votes(record, type(options)(**{**vars(options), **changes}))


def one(record, **changes):
    (vote,) = read(record, **changes)
    return vote


def by_winner(vote):
    """The answers of the winner and of the loser."""
    return (vote.response_a, vote.response_b) if vote.p[0] == 1 else (vote.response_b, vote.response_a)


# --- labels


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ({"winner": "model_a"}, A),
        ({"winner": " Model_B "}, B),
        ({"winner": "tie"}, TIE),
        ({"winner": "both_bad"}, TIE),
        ({"winner": "tie (bothbad)"}, TIE),
        ({"winner_model_a": "0", "winner_model_b": "1", "winner_tie": "0"}, B),
        ({"winner_model_a": 0.25, "winner_model_b": 0.5, "winner_tie": 0.25}, (0.25, 0.5, 0.25)),
        ({"p_a": "0.333", "p_b": "0.333", "p_tie": "0.333"}, (1 / 3, 1 / 3, 1 / 3)),
        ({"p_a": ".33", "p_b": ".33", "p_tie": ".33"}, (1 / 3, 1 / 3, 1 / 3)),
        ({"winner": "tie", "p_a": 0, "p_b": 0, "p_tie": 1}, TIE),
    ],
)
def test_labels(record, expected):
    assert label(record) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({"winner": ""}, "no label"),
        ({"winner": "draw"}, "unknown winner: 'draw'"),
        ({"winner": 1}, "unknown winner: 1"),
        ({"p_a": 0.5, "p_b": 0.2, "p_tie": 0.2}, "label is no distribution: 0.5, 0.2, 0.2 sum to 0.9"),
        ({"p_a": 1.5, "p_b": -0.5, "p_tie": 0}, "label is no distribution"),
        ({"p_a": "nan", "p_b": 0, "p_tie": 1}, "p_a is not a number"),
        ({"p_a": "one", "p_b": 0, "p_tie": 1}, "p_a is not a number: 'one'"),
        ({"p_a": 0.5, "p_b": 0.5, "p_tie": None}, "no label"),
        ({"winner": "model_a", "p_a": 0, "p_b": 0, "p_tie": 1}, "labels contradict"),
    ],
)
def test_what_is_no_label(record, reason):
    with pytest.raises(RowError) as error:
        label(record)
    assert str(error.value).startswith(reason)


def test_a_vote_may_have_a_weight():
    pair = {"prompt": "p", "response_a": "x", "response_b": "y", "winner": "model_a"}
    assert [one(pair | {"weight": given}).weight for given in (2, "0.5", 0, "", None)] == [
        2,
        0.5,
        0,
        None,
        None,
    ]
    assert one(pair).weight is None
    completions = [{"response": text, "overall_score": n} for n, text in enumerate("abc")]
    scored = {"instruction": "p", "completions": completions, "weight": 3}
    assert [vote.weight for vote in read(scored)] == [3, 3, 3]


@pytest.mark.parametrize(
    ("weight", "reason"),
    [
        (-1, "weight is not between 0 and 1e\\+06: -1"),
        (1e39, "weight is not between 0 and 1e\\+06: 1e\\+39"),
        ("much", "weight is not a number: 'much'"),
        ("inf", "weight is not a number"),
    ],
)
def test_what_is_no_weight(weight, reason):
    with pytest.raises(RowError, match=reason):
        one({"prompt": "p", "response_a": "x", "response_b": "y", "winner": "tie", "weight": weight})


# --- pairs

PAIR = {"id": 7, "prompt": "p", "response_a": "a", "response_b": "b", "winner": "model_a", "model_a": "m"}


def test_a_pair_of_plain_texts():
    vote = one(PAIR)
    assert vote == ("7", ["p"], ["a"], ["b"], "m", None, A, None, None, None, None)
    assert one(PAIR, labelled=False).p is None


def test_text_that_looks_like_json_stays_text_where_others_are_text():
    others = [PAIR, {**PAIR, "prompt": "another"}]
    literal = {**PAIR, "prompt": '["a list"]', "response_a": '["x"]'}
    record_format, options = detect_format([*others, literal], True)
    assert not options.encoded
    assert record_format.votes(literal, options)[0].prompt == ['["a list"]']


@pytest.mark.parametrize("encode", [json.dumps, list])
def test_turns_as_json_or_as_lists(encode):
    record = {
        **PAIR,
        "prompt": encode(["p", "q"]),
        "response_a": encode(["a", None]),
        "response_b": encode(["b", ""]),
    }
    vote = one(record)
    assert vote[1:4] == (["p", "q"], ["a", None], ["b", ""])


def test_a_missing_answer_is_null_turns():
    assert one({**PAIR, "response_a": None}).response_a == [None]
    assert (
        one({**PAIR, "prompt": '["p", "q"]', "response_a": "", "response_b": '["a", "b"]'}).response_a
        == [None] * 2
    )


def test_a_prompt_of_messages_puts_its_history_into_both_answers():
    record = {**PAIR, "prompt": [user("p"), bot("h"), user("q")]}
    assert one(record)[1:4] == (["p", "q"], ["h", "a"], ["h", "b"])
    assert one({**record, "response_a": None})[1:4] == (["p", "q"], ["h", None], ["h", "b"])


def test_answers_of_messages():
    assert one({**PAIR, "response_a": [bot("x")], "response_b": [user("p"), bot("y")]})[1:4] == (
        ["p"],
        ["x"],
        ["y"],
    )


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"prompt": None}, "prompt is neither text nor a list: null"),
        ({"prompt": 5}, "prompt is neither text nor a list: int"),
        ({"prompt": []}, "the prompt is empty"),
        ({"prompt": [None]}, "the prompt is empty"),
        ({"prompt": ["p", 5]}, "prompt holds something other than text: int"),
        (
            {"prompt": ["p", "q"], "response_a": ["a"]},
            "turn counts differ: prompt 2, response_a 1, response_b 1",
        ),
        ({"winner": None}, "no label"),
    ],
)
def test_bad_pairs(change, reason):
    with pytest.raises(RowError) as error:
        read({**PAIR, **change})
    assert str(error.value) == reason


def test_missing_columns():
    record_format, options = detect_format([PAIR], True)
    with pytest.raises(RowError, match="missing columns: response_b"):
        record_format.votes({name: PAIR[name] for name in PAIR if name != "response_b"}, options)


# --- conversations


def arena(winner="model_b", **change):
    return {
        "question_id": "q1",
        "model_a": "m",
        "model_b": "n",
        "winner": winner,
        "conversation_a": [user("p"), bot("a"), user("q"), bot("c")],
        "conversation_b": [user("p"), bot("b"), user("q"), bot("d")],
        **change,
    }


def test_arena_export():
    assert one(arena()) == (None, ["p", "q"], ["a", "c"], ["b", "d"], "m", "n", B, None, "q1", None, None)
    assert one(arena("tie (bothbad)")).p == TIE
    packed = {name: json.dumps(arena()[name]) for name in ("conversation_a", "conversation_b")}
    assert one(arena(**packed)) == one(arena())


def test_arena_messages_in_parts():
    parts = [{"type": "text", "text": "p"}, {"type": "image", "image": None}]
    record = arena(
        conversation_a=[user(parts), bot("a")],
        conversation_b=[user("p"), bot([{"type": "text", "text": "b"}])],
    )
    assert one(record)[1:4] == (["p"], ["a"], ["b"])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"conversation_a": [user("x"), bot("a")]}, "the two conversations ask different questions"),
        ({"conversation_a": "[{"}, "conversation_a is not JSON"),
        ({"conversation_a": None}, "conversation_a is not a list of messages"),
        ({"conversation_a": [bot("a"), user("p")]}, "conversation_a starts with an answer"),
        (
            {"conversation_a": [{"role": "tool", "content": ""}]},
            "conversation_a has a message of an unknown role",
        ),
        ({"conversation_a": [user(5)]}, "conversation_a has a message that is no text: int"),
    ],
)
def test_bad_conversations(change, reason):
    with pytest.raises(RowError) as error:
        read(arena(**change))
    assert str(error.value).startswith(reason)


def test_dialog_joins_what_one_side_says_in_a_row():
    system = {"role": "system", "content": "be kind"}
    messages = [system, user("a"), user("b"), bot("c"), bot("d"), {"from": "human", "value": "e"}]
    assert dialog(messages, "x") == (["be kind\n\na\nb", "e"], ["c\nd", None])


def test_transcripts():
    text = "\n\nHuman: hi\nthere\n\nAssistant: yes\n\nno\n\nHuman: why?\n\nAssistant:"
    assert transcript(text) == [user("hi\nthere"), bot("yes\n\nno"), user("why?"), bot("")]
    assert transcript("hello\n\nHuman: hi") == []
    assert transcript("") == []


# --- preferences


@pytest.mark.parametrize(
    "record",
    [
        {"prompt": "p", "chosen": "good", "rejected": "bad"},
        {"chosen": [user("p"), bot("good")], "rejected": [user("p"), bot("bad")]},
        {"prompt": "p", "chosen": [bot("good")], "rejected": [bot("bad")]},
        {"prompt": [user("p")], "chosen": [bot("good")], "rejected": [bot("bad")]},
        {"chosen": json.dumps([user("p"), bot("good")]), "rejected": json.dumps([user("p"), bot("bad")])},
        {"chosen": "\n\nHuman: p\n\nAssistant: good", "rejected": "\n\nHuman: p\n\nAssistant: bad"},
        {"prompt": "\n\nHuman: p\n\nAssistant:", "chosen": " good", "rejected": " bad"},
    ],
)
def test_preferences_in_all_clothes(record):
    vote = one(record)
    assert vote.prompt == ["p"]
    assert by_winner(vote) == (["good"], ["bad"])


def test_preferences_keep_turns_and_models_follow_their_sides():
    history = "\n\nHuman: p\n\nAssistant: h\n\nHuman: q\n\nAssistant: "
    for n in range(8):
        record = {
            "chosen": f"{history}good {n}",
            "rejected": f"{history}bad",
            "chosen_model": "m",
            "rejected_model": "n",
        }
        vote = one(record)
        assert vote.prompt == ["p", "q"]
        assert by_winner(vote) == (["h", f"good {n}"], ["h", "bad"])
        assert (vote.model_a if vote.p == A else vote.model_b) == "m"


def test_the_preferred_answer_is_on_either_side_and_stays_there():
    votes = [one({"prompt": "p", "chosen": f"good {n}", "rejected": "bad"}) for n in range(200)]
    assert 60 < sum(vote.p == A for vote in votes) < 140
    assert votes == [one({"prompt": "p", "chosen": f"good {n}", "rejected": "bad"}) for n in range(200)]


def test_scores_of_preferences():
    record = {"prompt": "p", "chosen": "good", "rejected": "bad", "score_chosen": 5.0, "score_rejected": 5.0}
    assert one(record).p == TIE
    with pytest.raises(RowError, match="labels contradict"):
        one({**record, "score_rejected": 6})


CHOSEN = {"prompt": "p", "chosen": "good", "rejected": "bad"}


@pytest.mark.parametrize(
    ("beside", "is_a_tie"),
    [
        ({"winner": "tie"}, True),
        ({"Winner": "Both_Bad"}, True),
        ({"winner": "chosen"}, False),
        ({"winner": "model_b"}, False),  # which of two sides won, not which of them was chosen
        ({"winner": "gpt", "chosen_model": "GPT", "rejected_model": "other"}, False),
        ({"winner": None, "is_tie": ""}, False),
        ({"is_tie": True}, True),
        ({"is_tie": "yes", "winner": "tie", "score_chosen": 3, "score_rejected": 3}, True),
        ({"is_tie": 0, "winner": "chosen", "score_chosen": 3, "score_rejected": 2}, False),
        ({"label": "tie"}, False),  # may be of anything
    ],
)
def test_a_winner_beside_preferences(beside, is_a_tie):
    vote = one(CHOSEN | beside)
    assert vote.p == TIE if is_a_tie else by_winner(vote) == (["good"], ["bad"])
    assert one(CHOSEN | beside, labelled=False).p is None


@pytest.mark.parametrize(
    ("beside", "why"),
    [
        ({"winner": "rejected"}, "labels contradict: by winner rejected"),
        ({"winner": "gpt", "rejected_model": "gpt"}, "labels contradict: by winner rejected"),
        ({"winner": "tie", "is_tie": False}, "labels contradict: by winner a tie, by is_tie chosen"),
        (
            {"winner": "tie", "score_chosen": 3, "score_rejected": 2},
            "labels contradict: by winner a tie, by the scores chosen",
        ),
        (
            {"winner": "nobody"},
            r"unknown winner: 'nobody'; valid: chosen, rejected, tie \(or --values 'nobody=\?'",
        ),
        ({"winner": ["tie"]}, "unknown winner; valid: a, b, tie: list"),
        ({"is_tie": "perhaps"}, "is_tie is neither true nor false: 'perhaps'"),
        ({"is_tie": []}, "is_tie is neither true nor false: "),
    ],
)
def test_a_winner_that_contradicts_preferences(beside, why):
    with pytest.raises(RowError, match=why):
        one(CHOSEN | beside)


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({"chosen": "good", "rejected": "bad"}, "chosen holds no question and there is no prompt"),
        ({"prompt": "p", "chosen": None, "rejected": "bad"}, "chosen is neither text nor messages"),
        (
            {"chosen": [user("p"), bot("x")], "rejected": [user("q"), bot("y")]},
            "the two conversations ask different questions",
        ),
    ],
)
def test_bad_preferences(record, reason):
    with pytest.raises(RowError) as error:
        read(record)
    assert str(error.value) == reason


def completion(score, name, text="x"):
    return {"model": name, "response": text, "fine-grained_score": score, "overall_score": 10}


def test_ultrafeedback_gives_all_pairs_or_some():
    completions = [completion(n % 3, f"m{n}", f"answer {n}") for n in range(4)]
    record = {"source": "s", "instruction": "p", "completions": completions}
    votes = read(record)
    scores = {f"m{n}": n % 3 for n in range(4)}
    assert {frozenset((v.model_a, v.model_b)) for v in votes} == {
        frozenset((f"m{i}", f"m{j}")) for i in range(4) for j in range(i)
    }
    for vote in votes:
        gap = scores[vote.model_a] - scores[vote.model_b]
        assert vote.p == (TIE if gap == 0 else A if gap > 0 else B)
        assert vote.response_a == [f"answer {vote.model_a[1:]}"]
    assert len(votes) == 6
    assert len(read(record, pairs_per_prompt=2)) == 2
    assert set(map(str, read(record, pairs_per_prompt=2))) <= set(map(str, votes))


@pytest.mark.parametrize(
    ("completions", "reason"),
    [
        ([completion(1, "m")], "not 2 to 64 completions: 1"),
        ([completion(1, "m")] * 3000, f"not 2 to 64 completions: 3000; {RAISE}"),
        (["x", "y"], "completions is not a list of answers with scores"),
        ([completion(1, "m"), {"response": "x"}], "a completion has no score"),
        ([completion(1, "m"), completion("N/A", "n")], "score is not a number: 'N/A'"),
    ],
)
def test_bad_completions(completions, reason):
    with pytest.raises(RowError) as error:
        read({"instruction": "p", "completions": completions})
    assert str(error.value) == reason


def test_unknown_columns_have_no_shape():
    assert detect_format([{"id": 1, "text": "x"}], True) is None
    unlabelled = {name: PAIR[name] for name in ("id", "prompt", "response_a", "response_b")}
    assert detect_format([unlabelled], True) is None
    assert detect_format([unlabelled], False) is not None


# --- what else belongs to the question

ASKED = {"instruction": "Add.", "input": "1 2", "system": "Be brief.", "history": [["Hi", "Hello"]]}


@pytest.mark.parametrize("history", [[["Hi", "Hello"]], [user("Hi"), bot("Hello")], '[["Hi", "Hello"]]'])
@pytest.mark.parametrize(
    "answers",
    [
        {"response_a": "3", "response_b": "4", "winner": "a"},
        {"chosen": "3", "rejected": "4"},
        {"completions": [{"response": "3", "score": 2}, {"response": "4", "score": 1}]},
    ],
)
def test_input_system_and_history_are_part_of_the_question(answers, history):
    vote = one(ASKED | {"history": history} | answers)
    assert vote.prompt == ["Be brief.\n\nHi", "Add.\n1 2"]
    assert by_winner(vote) == (["Hello", "3"], ["Hello", "4"])


@pytest.mark.parametrize(
    "answers", [{"response_a": "3", "response_b": "4", "winner": "a"}, {"chosen": "3", "rejected": "4"}]
)
def test_questions_that_differ_in_their_input_differ(answers):
    assert one({"instruction": "Add.", "input": "1 2"} | answers).prompt == ["Add.\n1 2"]
    assert one({"instruction": "Add.", "input": ""} | answers).prompt == ["Add."]


def test_a_system_prompt_comes_before_turns_and_dialogs():
    turns = {"prompt": '["x", "y"]', "response_a": '["1", "2"]', "response_b": '["3", "4"]', "winner": "a"}
    assert one(turns | {"system": "S"}).prompt == ["S\n\nx", "y"]
    sides = {"chosen": [user("x"), bot("1")], "rejected": [user("x"), bot("2")]}
    assert one(sides | {"system": "S"}).prompt == ["S\n\nx"]
    own = {name: [{"role": "system", "content": "own"}, *side] for name, side in sides.items()}
    assert one(own | {"system": "S"}).prompt == ["own\n\nx"]


@pytest.mark.parametrize(
    ("extra", "reason"),
    [
        ({"system": 7}, "system is no text: 7"),
        ({"input": ["x"]}, "input is no text"),
        ({"history": [["only a question"]]}, "history holds neither"),
        ({"history": "[["}, "history is not JSON"),
    ],
)
def test_what_is_no_part_of_a_question(extra, reason):
    with pytest.raises(RowError, match=reason):
        one({"instruction": "Add.", "chosen": "3", "rejected": "4"} | extra)


def test_nan_is_pandas_way_to_say_null():
    nothing = dict.fromkeys(("id", "input", "system", "history", "question_id", "weight"), float("nan"))
    vote = one(nothing | {"instruction": "Add.", "chosen": "3", "rejected": "4"})
    assert (vote.id, vote.prompt, vote.weight) == (None, ["Add."], None)
    assert one({"instruction": "Add.", "history": "null", "chosen": "3", "rejected": "4"}).prompt == ["Add."]


def test_many_messages_of_one_side_take_linear_time():
    said = [f"{n} {'x' * 40}" for n in range(100_000)]
    questions, answers = dialog([{"role": "user", "content": text} for text in said], "chosen")
    assert (questions, answers) == (["\n".join(said)], [None])


def test_a_detail_is_cut_where_it_is_long():
    with pytest.raises(RowError) as error:
        dialog([{"role": "z" * 100_000, "content": ""}], "chosen")
    assert str(error.value) == f"chosen has a message of an unknown role: {'z' * 300} [...]"
