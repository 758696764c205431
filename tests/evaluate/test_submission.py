from pathlib import Path

import numpy as np
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
        ("id,winner_model_a\n1,1\n", "lacks winner_model_b, winner_tie; it has id, winner_model_a"),
        ("", "no columns"),
        (HEADER + "1,1,0,0\n1,1,0,0\n", "id '1' comes more than once"),
        (HEADER + "1,one,0,0\n", "must be numbers"),
        (HEADER + "1,1,0\n", "must be numbers"),
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
