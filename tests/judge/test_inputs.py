"""Pairs as they are given in Python."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tiebreak.errors import TiebreakError
from tiebreak.judge.inputs import as_table

PAIR: dict[str, Any] = {"prompt": "p", "response_a": "a", "response_b": "b"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prompt": 5}, "pair 0: prompt is neither text nor a list: int; a pair is a dict with prompt"),
        ({"prompt": None}, "pair 0: prompt is neither text nor a list: null; a pair is"),
        ({"prompt": [None]}, "pair 0: the prompt is empty; a pair is"),
        ({"response_a": {"text": "a"}}, "pair 0: response_a is neither text nor a list: dict; a pair is"),
        ({"response_a": ["a", 2]}, "pair 0: response_a holds something other than text: int; a pair is"),
        (
            {"response_b": ["b", "c"]},
            "pair 0: turn counts differ: prompt 1, response_a 1, response_b 2; a pair",
        ),
    ],
)
def test_an_invalid_pair_is_named(change: dict[str, Any], message: str) -> None:
    pair: dict[str, Any] = {"prompt": "p", "response_a": "a", "response_b": "b"}
    with pytest.raises(TiebreakError, match=re.escape(message)):
        as_table([pair | change])
    with pytest.raises(TiebreakError, match="pair 1 is 7; a pair is a dict"):
        as_table([pair, 7])  # type: ignore[list-item]


def test_an_answer_that_was_never_given_has_the_turns_of_its_prompt() -> None:
    table, _ = as_table([{"prompt": ("p", "q"), "response_a": None, "response_b": np.array(["a", "b"])}])
    assert table["response_a"].to_pylist() == [[None, None]]
    assert table["response_b"].to_pylist() == [["a", "b"]]


@pytest.mark.parametrize(
    "change",
    [
        {"prompt": "caf\ud800\0"},
        {"prompt": ""},
        {"prompt": [None, "q"], "response_a": ["a", None], "response_b": ["", "\0"]},
        {"response_a": ""},
        {"response_a": [{"role": "assistant", "content": "hi"}]},
    ],
)
def test_dicts_are_parsed_as_rows_of_a_file(change: dict[str, Any], tmp_path: Path) -> None:
    pair = {"id": "1", "prompt": "p", "response_a": "a", "response_b": "b"} | change
    (tmp_path / "pairs.jsonl").write_text(json.dumps(pair))
    assert as_table([pair])[0].equals(as_table(tmp_path / "pairs.jsonl")[0])


def texts(*arguments: Any, **more: Any) -> list[Any]:
    names = ["prompt", "response_a", "response_b"]
    return [[row[name] for name in names] for row in as_table(*arguments, **more)[0].to_pylist()]


def test_one_dict_is_one_pair() -> None:
    assert texts(PAIR) == texts([PAIR]) == [[["p"], ["a"], ["b"]]]


def test_common_names_are_known_and_others_mapped() -> None:
    expected = texts(PAIR)
    assert texts({"question": "p", "output_1": "a", "output_2": "b"}) == expected
    columns = {"prompt": "q", "response_a": "x.0", "response_b": "x.1"}
    assert texts({"q": "p", "x": ["a", "b"], "prompt": "other"}, columns=columns) == expected
    with pytest.raises(TiebreakError, match=r"no column 'ask' in what was given; did you mean 'asked'\?"):
        as_table({"asked": "p", "a": "a", "b": "b"}, {"prompt": "ask", "response_a": "a", "response_b": "b"})
    with pytest.raises(TiebreakError, match=r"no field 'promt' of a vote; did you mean 'prompt'\?"):
        as_table(PAIR, {"promt": "prompt"})
    with pytest.raises(
        TiebreakError, match=r"what was given has the columns a, ask, b\. .*\n(.*\n)*.*in Python columns="
    ):
        as_table({"ask": "p", "a": "a", "b": "b"})


def test_chosen_and_rejected_stand_for_a_and_b() -> None:
    """Of pairs that are shown on either side."""
    given = [{"prompt": "p", "chosen": f"good {n}", "rejected": "bad"} for n in range(20)]
    table, swapped_N = as_table(given)
    assert 0 < swapped_N.sum() < 20
    shown = ["response_b" if swapped else "response_a" for swapped in swapped_N.tolist()]
    assert [row[name] for row, name in zip(table.to_pylist(), shown, strict=True)] == [
        [row["chosen"]] for row in given
    ]


def test_a_table_is_read_as_a_file_and_dicts_as_they_are() -> None:
    """Kaggle's CSV has turns as JSON; a text in a dict may be a list by chance."""
    lists = {name: f'["{text}", "{text}"]' for name, text in PAIR.items()}
    assert texts(pa.Table.from_pylist([lists])) == [[["p", "p"], ["a", "a"], ["b", "b"]]]
    assert texts(lists) == [[[text] for text in lists.values()]]


def test_a_frame_is_a_table() -> None:
    pandas = pytest.importorskip("pandas", reason="pandas is no dependency")
    assert texts(pandas.DataFrame([PAIR, PAIR], index=["x", "y"])) == texts([PAIR, PAIR])
    missing = pandas.DataFrame([PAIR | {"response_a": None}, PAIR])
    assert texts(missing)[0] == [["p"], [None], ["b"]]
    assert texts(missing[:0]) == []
    with pytest.raises(TiebreakError, match=r"the table of pairs cannot be read: .*; give dicts instead"):
        as_table(pandas.DataFrame([PAIR, PAIR | {"prompt": 1}]))
