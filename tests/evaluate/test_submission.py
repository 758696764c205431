import gzip
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tiebreak.errors import TiebreakError
from tiebreak.evaluate import submission

HEADER = "id,winner_model_a,winner_model_b,winner_tie\n"


def file(folder: Path, name: str, text: str) -> Path:
    (folder / name).write_text(text)
    return folder / name


def test_written_numbers_are_read_back_exactly(tmp_path):
    p = np.random.default_rng(0).dirichlet([1, 1, 1], size=20)
    submission.write([f"{n}" for n in range(20)], p, tmp_path / "submission.csv")
    ids, again = submission.read(tmp_path / "submission.csv")
    assert ids == [f"{n}" for n in range(20)]
    assert (again == p).all()
    assert [path.name for path in tmp_path.iterdir()] == ["submission.csv"]


def test_leaderboard_divides_rows_by_their_sum_and_pairs_by_id(tmp_path):
    ours = file(tmp_path, "ours.csv", HEADER + "1,2,1,1\n2,0.1,0.1,0.8\n")
    solution = file(tmp_path, "solution.csv", HEADER + "2,0,0,1\n1,1,0,0\n")
    expected = -(np.log(0.5) + np.log(0.8)) / 2
    assert submission.leaderboard_log_loss(ours, solution) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "id,winner_model_a\n1,1\n",
            "the columns id, winner_model_a; needed are id and winner_model_a, ",
        ),
        ("winner_model_a,winner_model_b,winner_tie\n1,0,0\n", "needed are id and"),
        ("", "has no rows"),
        (HEADER + "1,1,0,0\n1,1,0,0\n", "id '1' comes more than once"),
        (HEADER + "1,one,0,0\n", "winner_model_a of id '1' must be a number, not 'one'"),
        (HEADER + "1,2026-11-05,0,0\n", "must be a number, not '2026"),
        (HEADER + "1,1,0\n", "row 1: wrong number of columns: 3 instead of 4"),
        ("id," + HEADER + "1,1,1,0,0\n", "more than one column id"),
        (HEADER + "1,,0,1\n", "id '1' has no probabilities"),
        (HEADER + "1,nan,0,1\n", "id '1' has no probabilities"),
        (HEADER + "1,0,0,0\n", "id '1' has no probabilities"),
        (HEADER + "1,-1,1,1\n", "id '1' has no probabilities"),
    ],
)
def test_bad_files_are_named(tmp_path, text, message):
    with pytest.raises(TiebreakError, match=message):
        submission.read(file(tmp_path, "bad.csv", text))


def test_ids_must_be_the_same(tmp_path):
    ours = file(tmp_path, "ours.csv", HEADER + "1,1,0,0\n")
    solution = file(tmp_path, "solution.csv", HEADER + "1,1,0,0\n7,1,0,0\n")
    with pytest.raises(TiebreakError, match=r"one file only, such as '7', in .*solution.csv only"):
        submission.leaderboard_log_loss(ours, solution)


def test_solution_labels_must_be_probabilities(tmp_path):
    ours = file(tmp_path, "ours.csv", HEADER + "1,1,0,0\n")
    with pytest.raises(TiebreakError, match="soft labels must be probabilities"):
        submission.leaderboard_log_loss(ours, file(tmp_path, "solution.csv", HEADER + "1,1,1,0\n"))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(TiebreakError, match="no file at"):
        submission.read(tmp_path / "absent.csv")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (HEADER + "1,1,0,0\n", True),
        (HEADER.replace(",", ";") + "1;1;0;0\n", True),
        ("\ufeffid,p_a,p_b,p_tie\n1,1,0,0\n", True),
        ('"id","p_a","p_b","p_tie"\n1,1,0,0\n', True),
        ("id,prompt,response_a,response_b,winner_model_a,winner_model_b,winner_tie\n1,q,x,y,1,0,0\n", False),
        ("id,winner\n1,tie\n", False),
        (HEADER, False),
        ("", False),
    ],
)
def test_a_solution_is_told_from_votes(tmp_path, text, expected):
    assert submission.is_solution(file(tmp_path, "file.csv", text)) == expected


def test_parquet_is_read_whatever_its_name(tmp_path):
    columns = {"id": [7, 8], "p_a": [0.5, 0.2], "p_b": [0.25, 0.2], "p_tie": [0.25, 0.6]}
    pq.write_table(pa.table(columns), tmp_path / "predictions.data")
    assert submission.is_solution(tmp_path / "predictions.data")
    ids, p = submission.read(tmp_path / "predictions.data")
    assert ids == ["7", "8"]
    assert p.tolist() == [[0.5, 0.25, 0.25], [0.2, 0.2, 0.6]]


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_text_is_read_as_votes_are(tmp_path, pack):
    path = tmp_path / "predictions.csv"
    path.write_bytes(pack((HEADER.replace(",", ";") + "1;0.5;0.25;0.25\n").encode()))
    assert submission.is_solution(path)
    ids, p = submission.read(path)
    assert ids == ["1"]
    assert p.tolist() == [[0.5, 0.25, 0.25]]


def test_a_header_that_is_not_utf_8(tmp_path):
    path = tmp_path / "predictions.csv"
    path.write_bytes(b"na\xefve," + (HEADER + "x,1,1,0,0\n").encode())
    assert submission.read(path)[1].tolist() == [[1, 0, 0]]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"id": ["1"], "p_a": [[1.0]], "p_b": [0.0], "p_tie": [0.0]}, "p_a of id '1' must be a number, not"),
        ({"id": [{"n": 1}], "p_a": [None], "p_b": [0.0], "p_tie": [0.0]}, "has no probabilities"),
    ],
)
def test_parquet_of_other_types_is_named(tmp_path, columns, message):
    pq.write_table(pa.table(columns), tmp_path / "predictions.parquet")
    with pytest.raises(TiebreakError, match=message):
        submission.read(tmp_path / "predictions.parquet")


def test_parquet_that_breaks_off_is_named(tmp_path):
    path = tmp_path / "solution.parquet"
    pq.write_table(pa.table({"id": ["1"], "p_a": [1.0], "p_b": [0.0], "p_tie": [0.0]}), path)
    path.write_bytes(path.read_bytes()[:-20])
    for read in (submission.is_solution, submission.read):
        with pytest.raises(TiebreakError, match="damaged Parquet"):
            read(path)
