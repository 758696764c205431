"""Rows for people and for programs."""

import json

import pytest

from tiebreak.table import show

ROWS = [{"name": "a", "loss": 0.123456, "note": None}, {"name": "b", "loss": 2, "note": "x y"}]


def test_a_table_has_a_line_a_row(capsys: pytest.CaptureFixture[str]) -> None:
    show(ROWS, as_json=False)
    header, *lines = (line.split() for line in capsys.readouterr().out.splitlines())
    assert header == ["name", "loss", "note"]
    assert lines == [["a", "0.1235"], ["b", "2", "x", "y"]]


def test_json_keeps_all_digits(capsys: pytest.CaptureFixture[str]) -> None:
    show(ROWS, as_json=True)
    assert json.loads(capsys.readouterr().out) == ROWS


def test_without_rows_it_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    show([], as_json=False, nothing="nothing here")
    assert capsys.readouterr().out == "nothing here\n"
