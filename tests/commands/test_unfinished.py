"""Tests of outputs in the making that several processes write."""

from contextlib import suppress
from pathlib import Path

import pyarrow as pa
import pytest

from tiebreak.commands.unfinished import Unfinished
from tiebreak.errors import TiebreakError


def test_who_finishes_second_finds_nothing_to_write(tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl"
    first, second = Unfinished(output, {"the model": "m"}), Unfinished(output, {"the model": "m"})
    second.begin()
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


def test_a_piece_for_what_another_process_has_finished_is_none(tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl"
    output.write_text("of an earlier command")
    first, second = Unfinished(output, {}), Unfinished(output, {})
    second.write(0, 0, pa.table({"x": [1]}))
    with second.finishing() as turn:
        assert turn is not None
        turn.write_text("rows")
    assert first.is_overtaken()
    first.write(0, 1, pa.table({"x": [1]}))
    assert [path.name for path in tmp_path.iterdir()] == ["out.jsonl"]


def test_what_was_there_before_is_no_output_of_another_process(tmp_path: Path) -> None:
    """The folder is gone, as where another process had nothing to keep in it: it is made again."""
    output = tmp_path / "out.jsonl"
    output.write_text("of an earlier command")
    unfinished = Unfinished(output, {})
    unfinished.begin()
    Unfinished(output, {}).remove()
    assert not unfinished.is_overtaken()
    unfinished.write(0, 0, pa.table({"x": [1]}))
    assert unfinished.read(0, 0)["x"].to_pylist() == [1]


def test_two_that_begin_at_once_on_other_inputs_are_kept_apart(tmp_path: Path) -> None:
    output, table = tmp_path / "out.jsonl", pa.table({"x": [1]})
    first, second = Unfinished(output, {"the inputs": 1}), Unfinished(output, {"the inputs": 2})
    second.begin()
    first_job = (first.folder / "job.json").read_text()
    second.write(0, 0, table)
    with pytest.raises(TiebreakError, match="a part of other predictions: the inputs differ"):
        first.write(0, 1, table)
    with (
        pytest.raises(TiebreakError, match="a part of other predictions: the inputs differ"),
        first.finishing(),
    ):
        pass
    assert second.read(0, 0) == table
    (first.folder / "job.json").write_text(first_job.replace("2", "1"))  # whoever comes last says whose it is
    with pytest.raises(TiebreakError, match="was damaged and is gone"):
        first.read(0, 0)


def test_pieces_are_kept_in_no_folder_of_others(tmp_path: Path) -> None:
    output, folder = tmp_path / "out.jsonl", tmp_path / "out.jsonl.unfinished"
    folder.mkdir()
    (folder / "thesis.txt").write_text("x")
    with pytest.raises(TiebreakError, match=r"holds thesis\.txt, which is none of what is kept there"):
        Unfinished(output, {})
    folder.rename(tmp_path / "elsewhere")
    folder.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(TiebreakError, match="is a link"):
        Unfinished(output, {})
    assert [path.name for path in (tmp_path / "elsewhere").iterdir()] == ["thesis.txt"]


def test_files_of_others_outlive_the_folder(tmp_path: Path) -> None:
    unfinished = Unfinished(tmp_path / "out.jsonl", {})
    unfinished.begin()
    (unfinished.folder / ".nfs0001").write_text("x")
    unfinished.write(0, 0, pa.table({"x": [1]}))
    with unfinished.finishing() as output:
        assert output is not None
        output.write_text("rows")
    assert [path.name for path in unfinished.folder.iterdir()] == [".nfs0001"]


@pytest.mark.parametrize("text", ["[1]", "null", "[" * 100_000, "\xff", '"a"', "{"])
def test_a_job_that_cannot_be_read_is_told(tmp_path: Path, text: str) -> None:
    unfinished = Unfinished(tmp_path / "out.jsonl", {"the model": "m"})
    unfinished.write(0, 0, pa.table({"x": [1]}))
    (unfinished.folder / "job.json").write_text(text, encoding="latin-1")
    with pytest.raises(
        TiebreakError, match=r"job\.json is damaged: .*; delete the folder, or name another output"
    ):
        Unfinished(tmp_path / "out.jsonl", {"the model": "m"})


def test_every_flipped_byte_of_a_piece_is_seen(tmp_path: Path) -> None:
    unfinished, table = Unfinished(tmp_path / "out.jsonl", {}), pa.table({"p": [0.123456, 0.5, 0.25]})
    unfinished.write(0, 0, table)
    (piece,) = unfinished.folder.glob("0-*.piece")
    whole = piece.read_bytes()
    for at in range(len(whole)):
        piece.write_bytes(whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :])
        with suppress(TiebreakError):
            assert unfinished.read(0, 0)["p"].to_pylist() == table["p"].to_pylist(), at
    piece.write_bytes(whole[:-1])
    with pytest.raises(TiebreakError, match="was damaged and is gone"):
        unfinished.read(0, 0)
    assert not unfinished.has(0, 0)
