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
        ("", "cannot be read: Empty CSV"),
        (HEADER + "1,1,0,0\n1,1,0,0\n", "id '1' comes more than once"),
        (HEADER + "1,one,0,0\n", "must be numbers"),
        (HEADER + "1,1,0\n", "Expected 4 columns, got 3"),
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
        (HEADER, True),
        ("\ufeffid,p_a,p_b,p_tie\n", True),
        ('"id","p_a","p_b","p_tie"\n', True),
        ("id,prompt,response_a,response_b,winner_model_a,winner_model_b,winner_tie\n", False),
        ("id,winner\n", False),
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
