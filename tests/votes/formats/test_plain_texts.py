"""The short way to a vote: whatever a record holds, it finds what the long one finds, or nothing."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tiebreak.errors import TiebreakError
from tiebreak.votes.formats.dialog import RowError
from tiebreak.votes.formats.mapping import NO_MAP, ColumnMap
from tiebreak.votes.formats.plain_texts import plain_reader
from tiebreak.votes.formats.record_formats import COLUMNS, detect_format

MESSAGES = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "r"}]
TEXTS = ("Why?", "Because.", "", "a\0b", "ü\ud800", '["a", "b"]', "\n\nHuman: q\n\nAssistant: r")
ODD = [*TEXTS, None, float("nan"), 0, 7, 2.0, 1e300, True, ["t"], ["t", None], MESSAGES, {"k": "x"}]
VALUES = st.sampled_from(ODD)
ANSWERS = [
    ("response_a", "response_b"),
    ("output_1", "output_2"),
    ("Answer A", "Answer B"),
    ("chosen", "rejected"),
]
PROMPTS = ["prompt", "instruction", "question", "input", "context", "Prompt"]
IDS = st.sampled_from(["i", "", 7, 2.0, 2.5, float("nan"), True])
OTHERS = st.dictionaries(
    st.sampled_from(sorted({*COLUMNS, *PROMPTS, "meta", "ID", "a.b"})), VALUES, max_size=2
)
MAPPINGS = [
    NO_MAP,
    ColumnMap({"prompt": "meta"}),
    ColumnMap({"prompt": "question"}),
    ColumnMap({"prompt": "meta.k", "id": "a.b"}),
    ColumnMap({"id": "ID", "weight": "meta"}),
    ColumnMap({"model_a": "id", "input": "context"}),
]


@st.composite
def records(draw: st.DrawFn) -> dict[str, Any]:
    """Plain records, but for what is drawn beside or in place of their texts."""
    names = (draw(st.sampled_from(PROMPTS)), *draw(st.sampled_from(ANSWERS)))
    own_id = {"id": draw(IDS)} if draw(st.booleans()) else {}
    found = dict.fromkeys(names, "text") | own_id | draw(OTHERS)
    if draw(st.booleans()):
        found[draw(st.sampled_from(names))] = draw(VALUES)
    return dict(draw(st.permutations(list(found.items()))))


@settings(max_examples=300)
@given(records(), records(), st.sampled_from(MAPPINGS), st.booleans())
def test_it_finds_what_the_long_way_finds_or_nothing(
    record: dict[str, Any], other: dict[str, Any], mapping: ColumnMap, labelled: bool
) -> None:
    """Of a file's first record, which tells its format, and of one with other columns."""
    require_same([record, other], mapping, labelled)


def require_same(records: list[dict[str, Any]], mapping: ColumnMap, labelled: bool = False) -> None:
    try:
        found = detect_format(records[:1], labelled, mapping)
    except TiebreakError:  # answers that are mapped crosswise
        return
    if found is None:
        return
    record_format, options = found
    read = plain_reader(record_format, options)
    for record in records:
        if (plain := read(record)) is not None:
            assert [plain] == record_format.votes(record, options)


@pytest.mark.parametrize("name", ["prompt", "question", "response_a", "response_b", "id", "model_b"])
@pytest.mark.parametrize("mapping", [NO_MAP, ColumnMap({"prompt": "question"})])
def test_any_value_of_one_column(name: str, mapping: ColumnMap) -> None:
    plain = {"prompt": "p", "question": "q", "response_a": "x", "response_b": "y"}
    without = {column: text for column, text in plain.items() if column != name}
    require_same([plain, without, *(plain | {name: value} for value in ODD)], mapping)


@pytest.mark.parametrize("prompt", ["prompt", "instruction", "question"])
@pytest.mark.parametrize(("a", "b"), ANSWERS[:3])
def test_plain_records_take_it(prompt: str, a: str, b: str) -> None:
    record = {
        "n": 1,
        prompt: "p\0",
        a: "x",
        b: "y",
        "id": 7,
        "model_a": "m",
        "winner": "a",
        "meta": {"k": [1]},
    }
    found = detect_format([record], labelled=False)
    assert found
    vote = plain_reader(*found)(record)
    assert vote is not None
    assert vote == found[0].votes(record, found[1])[0]
    assert vote[:6] == ("7", ["p\ufffd"], ["x"], ["y"], "m", None)
    for name in ("system", "weight", "tags"):
        assert plain_reader(*found)(record | {name: "s"}) is None


def test_the_long_way_alone_says_what_is_wrong() -> None:
    record = {"prompt": "p", "response_a": "x", "response_b": ["y", "z"]}
    found = detect_format([record], labelled=False)
    assert found
    assert plain_reader(*found)(record) is None
    with pytest.raises(RowError, match="turn counts differ"):
        found[0].votes(record, found[1])
