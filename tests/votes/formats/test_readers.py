import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tiebreak.errors import TiebreakError
from tiebreak.votes.formats import readers
from tiebreak.votes.formats.readers import read, read_all
from tiebreak.votes.schema import SCHEMA


def pair(name=None, **change):
    given = {} if name is None else {"id": name}
    return {**given, "prompt": ["p"], "response_a": ["a"], "response_b": ["b"], "winner": "tie", **change}


def write(path, records):
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def ids(*paths, role="votes"):
    return read_all(paths, role)[0]["id"].to_pylist()


def test_an_id_repeated_in_a_file_is_a_reject(tmp_path):
    votes, rejects = read_all([write(tmp_path / "x", [pair("1"), pair("2"), pair("1")])])
    assert votes["id"].to_pylist() == ["1", "2"]
    where = {"file": str(tmp_path / "x"), "row": 3}
    assert rejects.to_pylist() == [where | {"kind": "duplicate id", "reason": "duplicate id: 1"}]


def test_a_last_record_without_an_end_that_is_no_vote_breaks_off(tmp_path):
    header, row = "prompt,response_a,response_b,winner\n", "p,a,b,tie\n"
    (tmp_path / "x").write_text(header + 3 * row + "p,a,b,ti")
    votes, rejects = read_all([tmp_path / "x"])
    assert len(votes) == 3
    (reason,) = rejects["reason"].to_pylist()
    assert reason.startswith(
        "cannot be read from here on: the last record does not end: unknown winner: 'ti'"
    )
    (tmp_path / "x").write_text(header + 3 * row + "p,a,b,ti\n")
    (kind,) = read_all([tmp_path / "x"])[1]["kind"].to_pylist()
    assert kind.startswith("unknown winner: 'ti'"), "this one ends"
    (tmp_path / "x").write_text(header + row + "p,a,c,ti\n" + row + "p,a,b,ti")
    assert [kind] * 2 == read_all([tmp_path / "x"])[1]["kind"].to_pylist(), "others are like it"
    (tmp_path / "x").write_text((header + 3 * row).rstrip())
    assert len(read_all([tmp_path / "x"])[0]) == 3


def test_an_id_of_another_file_gets_the_name_of_its_file(tmp_path):
    files = [
        write(tmp_path / folder / name, [pair("1")]) for folder, name in (("a", "x"), ("a", "y"), ("b", "y"))
    ]
    assert ids(*files) == ["1", "y/1", "y/1-2"]


def test_a_question_id_is_shared_by_votes_on_one_question(tmp_path):
    made = [pair(question_id=81, model_a=name, response_a=[name]) for name in ("x", "y", "y")]
    first, second, third = ids(write(tmp_path / "mt_bench", made))
    assert first == "81"
    assert second.startswith("81-")
    assert third == f"{second}-2"


@pytest.mark.parametrize("number", [1.5, 2.0**53, -(2.0**60)])
def test_ids_that_were_rounded_are_rejects(tmp_path, number):
    votes, rejects = read_all([write(tmp_path / "x", [pair(7.0), pair(number)])])
    assert votes["id"].to_pylist() == ["7"]
    assert "may have been rounded" in rejects["reason"][0].as_py()
    assert str(number) not in rejects["kind"][0].as_py(), "rejects of one kind are counted together"


def test_equal_rows_without_ids_take_linear_time_and_short_ids(tmp_path):
    made = ids(write(tmp_path / "x", [pair()] * 5000))
    assert len(set(made)) == 5000
    assert max(map(len, made)) == 20 + len("-5000")


def test_made_ids_depend_on_the_texts_alone(tmp_path):
    one = write(tmp_path / "one", [pair(), pair(prompt=["q"]), pair()])
    two = write(tmp_path / "two", [pair(prompt=["q"]), pair()])
    first, second, repeated = ids(one)
    assert ids(two) == [second, first]
    assert len({first, second, repeated}) == 3


def test_batches_keep_order_and_count_everything(tmp_path, monkeypatch):
    monkeypatch.setattr(readers, "_BATCH_ROWS", 7)
    records = [pair(str(n)) if n % 5 else {"prompt": "?"} for n in range(100)]
    batches = list(read([write(tmp_path / "x", records)]))
    assert len(batches) > 5
    assert sum(batch.records for batch in batches) == 100
    names = [name for batch in batches for name in batch.votes["id"].to_pylist()]
    assert names == [str(n) for n in range(100) if n % 5]
    assert [reject.row for batch in batches for reject in batch.rejects] == list(range(1, 101, 5))


def test_long_texts_make_short_batches(tmp_path, monkeypatch):
    monkeypatch.setattr(readers, "_BATCH_CHARS", 1000)
    batches = list(read([write(tmp_path / "x", [pair(response_a=["x" * 600]) for _ in range(10)])]))
    assert max(batch.votes.num_rows for batch in batches) == 2


def test_own_votes_are_read_back(tmp_path):
    votes, _ = read_all([write(tmp_path / "x", [pair("1", response_a=[None]), pair("2")])])
    from tiebreak.votes.schema import write_table

    write_table(votes, tmp_path / "y")
    again, _ = read_all([tmp_path / "y"])
    assert again.equals(votes)


def test_unreadable_files_say_why(tmp_path):
    (tmp_path / "x").write_text("{\n{\n")
    with pytest.raises(TiebreakError, match=r"none of the first 2 rows .* not JSON"):
        read_all([tmp_path / "x"])


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
messages = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["user", "assistant", "system", "x"]), "content": anything}
    ),
    max_size=4,
)
cell = anything | messages | st.lists(st.text(), max_size=3) | messages.map(json.dumps)
score = st.sampled_from([0, 1, 0.5, "1", "0", None, -1, "x"])
columns = {
    "id": anything,
    "winner": st.sampled_from(["model_a", "tie", "both_bad", "", None, "x", 3]),
    "model_a": anything,
    **dict.fromkeys(("prompt", "response_a", "response_b", "conversation_a", "conversation_b"), cell),
    **dict.fromkeys(("chosen", "rejected", "instruction"), cell),
    "completions": cell | st.lists(st.fixed_dictionaries({"response": cell, "score": score}), max_size=3),
    **dict.fromkeys(("winner_model_a", "winner_model_b", "winner_tie", "score_chosen"), score),
}
chat = [{"role": "user", "content": "p"}, {"role": "assistant", "content": "a"}]
good = st.sampled_from(
    [
        pair(),
        {"winner": "tie", "conversation_a": chat, "conversation_b": chat},
        {"chosen": chat, "rejected": chat},
        {"instruction": "p", "completions": [{"response": "x", "score": 1}] * 3},
        {},
    ]
)
record = st.builds(lambda base, change: {**base, **change}, good, st.fixed_dictionaries({}, optional=columns))


@pytest.mark.slow
@settings(deadline=None, max_examples=80)
@given(st.lists(record, max_size=6), st.sampled_from(["votes", "test"]))
def test_any_record_is_a_vote_or_a_reject(tmp_path_factory, records, role):
    path = write(Path(tmp_path_factory.mktemp("x")) / "x", records)
    try:
        batches = list(read([path], role))
    except TiebreakError:
        return
    assert sum(batch.records for batch in batches) == len(records)
    rejected = {reject.row for batch in batches for reject in batch.rejects}
    assert len(rejected) == sum(len(batch.rejects) for batch in batches)
    votes = [vote for batch in batches for vote in batch.votes.to_pylist()]
    assert len(votes) >= len(records) - len(rejected)
    assert len({vote["id"] for vote in votes}) == len(votes)
    for batch in batches:
        assert batch.votes.schema == SCHEMA
        batch.votes.validate(full=True)
    for vote in votes:
        assert len(vote["prompt"]) == len(vote["response_a"]) == len(vote["response_b"]) > 0
        p = [vote["p_a"], vote["p_b"], vote["p_tie"]]
        assert p == [None] * 3 if role == "test" else sum(p) == pytest.approx(1, abs=1e-6)


def test_votes_of_one_record_may_be_several_batches(tmp_path, monkeypatch):
    monkeypatch.setattr(readers, "_BATCH_CHARS", 400)
    completions = [{"response": f"{n}", "score": n} for n in range(8)]
    write(tmp_path / "v.jsonl", [{"instruction": "p" * 100, "completions": completions}])
    batches = list(read([tmp_path / "v.jsonl"]))
    assert [len(batch.votes) for batch in batches] == [4] * 7
    assert [batch.records for batch in batches] == [1, 0, 0, 0, 0, 0, 0]


def test_a_summary_of_many_kinds_has_the_most_frequent():
    kinds = readers.Counter({f"kind {n}": 100 - n for n in range(30)})
    text = readers.summary(kinds)
    assert text.startswith("100 kind 0, 99 kind 1,")
    assert text.endswith("91 kind 9, 1610 of 20 other kinds")
