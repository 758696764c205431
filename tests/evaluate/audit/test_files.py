import csv

import pytest
from hostile_text import HOSTILE

from tiebreak.evaluate.audit import files

ROW = {
    **{
        "id": "p1",
        "surprise": 2.5,
        "slip": None,
        "people": "a",
        "judge": "b",
        "p_a": 0.1,
        "p_b": 0.8,
        "p_tie": 0.1,
    },
    **{"votes_a": 2, "votes_b": 0, "votes_tie": 1, "model_a": "m", "model_b": None},
    **{"prompt": ["one", "two"], "response_a": ["x", None], "response_b": ["y", "z"]},
}


def written(tmp_path, **changes):
    files.write_csv([ROW | changes], tmp_path / "d.csv")
    with (tmp_path / "d.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    return row


def test_turns_are_texts_and_what_is_not_known_is_empty(tmp_path):
    row = written(tmp_path)
    assert (row["surprise"], row["slip"], row["votes_a"], row["model_b"]) == ("2.5000", "", "2", "")
    assert (row["prompt"], row["response_a"]) == ("one\n\ntwo", "x\n\n(no answer)")


@pytest.mark.parametrize(
    "text", ["=1+1", "+1", "-1", "@SUM(A1)", " =HYPERLINK(0)", "\n=1", "\t=1", "\r=1", "=cmd|' /C calc'!A0"]
)
def test_no_text_is_a_formula(tmp_path, text):
    for column in ("id", "model_a"):
        assert written(tmp_path, **{column: text})[column].lstrip(" \n")[:1] not in "=+-@\t\r"
    assert written(tmp_path, response_a=[text])["response_a"].lstrip(" \n")[:1] not in "=+-@\t\r"


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_texts_are_plain(tmp_path, text):
    shown = written(tmp_path, prompt=[text])["prompt"]
    assert not any(ord(letter) < 32 and letter != "\n" for letter in shown)
