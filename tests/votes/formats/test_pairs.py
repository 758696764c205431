"""Pairs to judge: a record that cannot be read keeps its place, and the beginning of its text."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tiebreak.errors import TiebreakError
from tiebreak.evaluate import submission
from tiebreak.votes.formats import containers, readers
from tiebreak.votes.formats.pairs import read_file, read_whole
from tiebreak.votes.formats.rows import _KEPT, UNREADABLE, Row

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


def test_a_file_is_read_whole_with_ids_of_its_own_or_made(tmp_path: Path) -> None:
    file = tmp_path / "pairs"
    rows = [{"prompt": f"q{n}", "chosen": f"x{n}", "rejected": f"y{n}"} for n in range(9)]
    file.write_text("".join(json.dumps(row) + "\n" for row in (*rows, rows[0])))
    found = read_whole(file)
    assert [vote.id for _, vote in found] == readers.read_whole(file, "test")["id"].to_pylist()
    swapped = [vote.response_a[0][0] == "y" for _, vote in found]
    assert [pair.swapped for pair, _ in found] == swapped
    assert any(swapped)
    assert not all(swapped)
    file.write_text(f'{GOOD[:-1]}, "id": 1}}\n{GOOD[:-1]}, "id": 1}}\n{{\n')
    with pytest.raises(TiebreakError, match=r"2 of the rows in .* the first is row 2: duplicate id: 1; mend"):
        read_whole(file)


@pytest.mark.parametrize("named", [True, False])
def test_predictions_are_read_in_one_pass(
    tmp_path: Path, named: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "predictions"
    row = {"prompt": "q", "chosen": "x", "rejected": "y", "p_chosen": 0.5, "p_rejected": 0.3, "p_tie": 0.2}
    rows = [row | {"chosen": str(n)} | ({"id": n} if named else {}) for n in range(9)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    counts = []

    def count(path: Path, *columns: object) -> Iterator[Row]:
        counts.append(0)
        for row in records(path, *columns):  # type: ignore[arg-type]
            counts[-1] += 1
            yield row

    records = containers.records
    monkeypatch.setattr(containers, "records", count)
    ids, p_NC = submission.read(file)
    assert sum(count > 1 for count in counts) == 1
    assert len(set(ids)) == 9
    assert {tuple(p) for p in p_NC.tolist()} == {(0.5, 0.3, 0.2), (0.3, 0.5, 0.2)}
