"""JSON that others wrote: a key that is there twice is a guess, and what is no file is not waited for."""

import os
from pathlib import Path

import pytest

from tiebreak import json_files
from tiebreak.errors import TiebreakError


@pytest.mark.parametrize("text", ['{"a": 1, "a": 1}', '[{"b": {"a": 1, "c": 2, "a": 3}}]'])
def test_a_key_that_is_there_twice_is_refused(text: str) -> None:
    with pytest.raises(json_files.RepeatedKey, match="the key 'a' is there twice"):
        json_files.loads(text)
    with pytest.raises(json_files.RepeatedKey):
        json_files.checked(text.encode())


def test_a_file_holds_an_object(tmp_path: Path) -> None:
    file = tmp_path / "x.json"
    file.write_text('{"a": [{"a": 1}]}')
    assert json_files.read_object(file, "mend it") == {"a": [{"a": 1}]}
    for text in (b"[]", b"{", b"\xff", b"[" * 100_000, b'{"a": 1, "a": 2}', b""):
        file.write_bytes(text)
        with pytest.raises(TiebreakError, match=r"x\.json is damaged: .*; mend it"):
            json_files.read_object(file, "mend it")
    file.unlink()
    os.mkfifo(file)
    with pytest.raises(TiebreakError, match="is a pipe, not a file; mend it"):
        json_files.read_object(file, "mend it")


def test_what_is_nested_too_deep_is_refused_wherever_it_is_read() -> None:
    most = json_files.MOST_NESTED
    nested = "[" * most + "]" * most
    assert json_files.loads(nested)
    assert json_files.loads('{"a": "' + "[" * 10_000 + '"}')["a"] == "[" * 10_000
    for text in (f"[{nested}]", '{"a":' * (most + 1) + "1" + "}" * (most + 1), "[" * 100_000):
        with pytest.raises(ValueError, match="it is nested too deep"):
            json_files.loads(text)
