"""Output files: where they may be written, and how they take their place."""

import os
import re
from collections.abc import Callable
from multiprocessing import Process
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from tiebreak.commands import row_files
from tiebreak.errors import TiebreakError
from tiebreak.evaluate import submission
from tiebreak.output import (
    inside,
    new_file,
    new_folder,
    replace_link,
    replacing,
    replacing_folder,
    write_atomically,
)
from tiebreak.votes import parquet
from tiebreak.votes.schema import write_table


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
        (f"{'a' * 300}.csv", "cannot write .*: File name too long; name another file"),
        ("/proc/a.csv", r"cannot write .*/proc"),  # where also root, who may write anywhere, can make no file
        ("/dev/full/a.csv", "cannot write"),
    ],
)
def test_places_where_nothing_can_be_written(name: str, why: str, tmp_path: Path) -> None:
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(TiebreakError, match=why):
        new_file(tmp_path / name, (".csv", ".html"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder.csv"]


def test_a_new_folder_is_made_or_named(tmp_path: Path) -> None:
    assert new_folder(tmp_path / "a" / "b").is_dir()
    (tmp_path / "file").touch()
    with pytest.raises(TiebreakError, match=r"cannot write to the folder .*file: File exists"):
        new_folder(tmp_path / "file")


@pytest.mark.parametrize(
    "parts", [("..",), ("a", "..", "b"), ("a/../../b",), ("/etc",), ("link",), ("link", "b")]
)
def test_a_place_in_a_folder_is_in_it(tmp_path: Path, parts: tuple[str, ...]) -> None:
    root = tmp_path / "root"
    (tmp_path / "real").mkdir()
    root.symlink_to("real")
    (root / "link").symlink_to(".")
    with pytest.raises(TiebreakError, match="is a link or leads out of"):
        inside(root, *parts)
    assert inside(root, "a", "b/c") == root / "a" / "b" / "c"


def write_in_turn(path: Path, text: str) -> None:
    for _ in range(50):
        write_atomically(path, text)


def test_writers_of_one_file_do_not_collide(tmp_path: Path) -> None:
    path, texts = tmp_path / "report.html", [str(n) * 10_000 for n in range(6)]
    writers = [Process(target=write_in_turn, args=(path, text)) for text in texts]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0] * 6
    assert path.read_text() in texts
    assert os.listdir(tmp_path) == ["report.html"]


def test_a_link_is_replaced_and_its_target_left_alone(tmp_path: Path) -> None:
    kept, link = tmp_path / "kept", tmp_path / "link"
    kept.write_text("kept")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").touch()
    link.symlink_to(kept)
    write_atomically(link, "é")
    assert (kept.read_text(), link.read_text("utf-8"), link.is_symlink()) == ("kept", "é", False)
    link.unlink()
    link.symlink_to(tmp_path / "folder")
    with replacing_folder(link) as new:
        (new / "other").touch()
    assert os.listdir(link) == ["other"]
    assert os.listdir(tmp_path / "folder") == ["file"]
    replace_link(link.with_name("again"), Path("folder"))
    replace_link(link.with_name("again"), Path("kept"))
    assert os.readlink(link.with_name("again")) == "kept"


def test_nothing_of_a_failed_writer_stays_and_what_was_there_does(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("before")
    with pytest.raises(ZeroDivisionError), replacing(tmp_path / "file") as file:
        file.write(bytes(1 // 0))
    with pytest.raises(ZeroDivisionError), replacing_folder(tmp_path / "folder") as folder:
        (folder / "half").write_text("half" * (1 // 0))
    assert os.listdir(tmp_path) == ["file"]
    assert (tmp_path / "file").read_text() == "before"


def test_what_killed_writers_left_is_removed_by_the_next_once_it_is_old(tmp_path: Path) -> None:
    old, new, links = (tmp_path / f".tiebreak-{n}.partial" for n in ("old", "new", "links"))
    old.mkdir()
    (old / "half").touch()
    new.touch()
    (tmp_path / "dear").write_text("dear")
    links.symlink_to(tmp_path / "dear")
    for path in (old, links):
        os.utime(path, (0, 0), follow_symlinks=False)
    write_atomically(tmp_path / "file", "text")
    assert sorted(os.listdir(tmp_path)) == [".tiebreak-new.partial", "dear", "file"]


@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_a_file_is_readable_as_the_umask_allows(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        write_atomically(tmp_path / "file", "text")
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o666 & ~mask


def test_every_writer_replaces_a_link(tmp_path: Path) -> None:
    """What each writes comes to stand where the link was."""
    kept = tmp_path / "kept"
    kept.write_text("kept")
    votes = pa.table({"id": ["1"]})
    writers: dict[str, Callable[[Path], object]] = {
        "table": lambda path: write_table(votes, path),
        "parquet": lambda path: _stream(votes, path),
        "submission": lambda path: submission.write(["1"], np.full((1, 3), 1 / 3), path),
        "rows": lambda path: row_files.write(votes.to_pylist, path),
    }
    for name, write in writers.items():
        path = tmp_path / name
        path.symlink_to(kept)
        write(path)
        assert not path.is_symlink(), name
        assert kept.read_text() == "kept", name


def _stream(votes: pa.Table, path: Path) -> None:
    with parquet.writer(path, votes.schema) as open_writer:
        open_writer.write_table(votes)


WRITING = re.compile(
    r"\.write_text\(|\.write_bytes\(|NamedTemporaryFile|mkstemp|\.rename\(|os\.replace\(|open\([^)]*\"[wx]"
)
EXCEPTIONS = {
    "output.py",
    "cli/__init__.py",  # the log of a fault, under a random name
    "pipeline/steps/evaluate.py",  # a copy into a folder just made
    "slurm/numbered_scripts.py",  # the lock, opened without links
}


def test_all_files_are_written_by_one_helper(repository: Path) -> None:
    source = repository / "src" / "tiebreak"
    found = {
        str(path.relative_to(source)) for path in source.rglob("*.py") if WRITING.search(path.read_text())
    }
    assert found <= EXCEPTIONS
