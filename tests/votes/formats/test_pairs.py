"""Pairs to judge: a record that cannot be read keeps its place, and the beginning of its text."""

from pathlib import Path

import pytest

from tiebreak.votes.formats.pairs import UNREADABLE, read_file
from tiebreak.votes.formats.rows import _KEPT

GOOD = '{"prompt": "p", "response_a": "a", "response_b": "b"}'


@pytest.mark.parametrize("broken", ['{"prompt": "p', "[1]", '{"prompt": 1, "prompt": 2}', "\x1b[2J"])
def test_what_cannot_be_read_is_kept(tmp_path: Path, broken: str) -> None:
    file = tmp_path / "pairs"
    file.write_text(f"{GOOD}\n{broken}\n{GOOD}\n")
    first, pair, last = read_file(file)
    assert pair.record == {UNREADABLE: broken}
    assert UNREADABLE not in first.record.keys() | last.record.keys()
    file.write_text(f"{GOOD}\n{'[' * 2 * _KEPT}\n")
    assert list(read_file(file))[1].record == {UNREADABLE: "[" * _KEPT + " [...]"}


def test_bytes_that_are_no_text_are_replaced(tmp_path: Path) -> None:
    file = tmp_path / "pairs"
    file.write_bytes(b'prompt,response_a,response_b\np,\xc3\xa9,b\np,"\xff",b\np,b\np,a,b\n')
    _, no_text, short, _ = read_file(file)
    assert no_text.record == {UNREADABLE: "p,\ufffd,b"}
    assert short.record == {UNREADABLE: "p,b"}
