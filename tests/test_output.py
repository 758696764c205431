from pathlib import Path

import pytest

from tiebreak.errors import TiebreakError
from tiebreak.output import new_file, new_folder


def test_the_folder_of_a_new_file_is_made(tmp_path: Path) -> None:
    path = tmp_path / "new" / "out.csv"
    assert new_file(path, (".csv",), [tmp_path / "gone.csv"]) == path
    assert path.parent.is_dir()
    assert not path.exists()


def test_what_exists_may_be_written_again_but_no_input(tmp_path: Path) -> None:
    (tmp_path / "a.csv").touch()
    (tmp_path / "link.csv").symlink_to(tmp_path / "a.csv")
    assert new_file(tmp_path / "a.csv", (".csv",))
    with pytest.raises(TiebreakError, match=r"link\.csv is read by this command"):
        new_file(tmp_path / "link.csv", (".csv",), [tmp_path / "a.csv"])


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("a.txt", r"cannot write .*a\.txt: Valid: \.csv, \.html"),
        ("folder.csv", "it is a folder"),
        ("file/a.csv", "cannot write"),
    ],
)
def test_places_where_nothing_can_be_written(name: str, why: str, tmp_path: Path) -> None:
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(TiebreakError, match=why):
        new_file(tmp_path / name, (".csv", ".html"))


def test_a_new_folder_is_made_or_named(tmp_path: Path) -> None:
    assert new_folder(tmp_path / "a" / "b").is_dir()
    (tmp_path / "file").touch()
    with pytest.raises(TiebreakError, match=r"cannot write to the folder .*file: File exists"):
        new_folder(tmp_path / "file")
