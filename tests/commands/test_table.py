"""Rows as tables and as JSON."""

import json

import pytest

from tiebreak.commands.table import show, show_verdict

ROWS = [{"name": "a", "loss": 0.123456, "note": None}, {"name": "b", "loss": 2, "note": "x y"}]


def test_a_table_has_a_line_a_row(capsys: pytest.CaptureFixture[str]) -> None:
    show(ROWS, as_json=False)
    header, *lines = (line.split() for line in capsys.readouterr().out.splitlines())
    assert header == ["name", "loss", "note"]
    assert lines == [["a", "0.1235"], ["b", "2", "x", "y"]]


def test_json_keeps_all_digits(capsys: pytest.CaptureFixture[str]) -> None:
    show(ROWS, as_json=True)
    assert json.loads(capsys.readouterr().out) == ROWS


def test_without_rows_a_text_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    show([], as_json=False, nothing="nothing here")
    assert capsys.readouterr().out == "nothing here\n"


def test_a_verdict_is_plain_text_off_a_terminal(capsys) -> None:
    findings = [
        {"holds": False, "text": "Worse than [bold]that[/bold] by " + "a lot " * 30},
        {"holds": None, "text": "Calibration is not tested."},
    ]
    show_verdict({"use": False, "headline": "Do not use: worse.", "findings": findings}, "p[1].csv")
    first, second, third = capsys.readouterr().out.splitlines()
    assert first == "p[1].csv: Do not use: worse."
    assert second.rstrip() == f"  - {findings[0]['text']}".rstrip()
    assert third == "  ? Calibration is not tested."
