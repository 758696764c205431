"""Tests of outputs in the making that several processes write."""

from pathlib import Path

from tiebreak.commands.unfinished import Unfinished


def test_who_finishes_second_finds_nothing_to_write(tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl"
    first, second = Unfinished(output, {"the model": "m"}), Unfinished(output, {"the model": "m"})
    with second.finishing() as turn:  # waited for the first, which was done before it came in
        assert turn is not None
        turn.write_text("rows")
        first_folder = first.folder
    assert output.read_text() == "rows"
    first.remove()
    with first.finishing() as turn:
        assert turn is None
    assert output.read_text() == "rows"
    assert not first_folder.exists()
