"""Output files and folders: where one may be written, and how it takes its place whole.

Whatever is written appears under a random name beside its place and is renamed at the end. So readers never see half
of it, writers of one file never collide, and a link at the place is replaced: what it points to is left alone.
"""

import os
import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from tiebreak.errors import TiebreakError, nearest
from tiebreak.full_disk import full_disk_as_error
from tiebreak.regular_file import require_regular

_PREFIX, _SUFFIX = ".tiebreak-", ".partial"
_COMPRESSED = (".gz", ".zst", ".bz2", ".xz", ".zip")
_ABANDONED_SECONDS = 3600.0
"""Nobody writes any more to a file or folder under a temporary name that is this old."""


def new_file(path: Path, suffixes: Sequence[str], inputs: Iterable[Path] = ()) -> Path:
    """Check the path of a file to write, make its folder, and return the path.

    Raises TiebreakError for another suffix, a folder, one of the `inputs`, and where nothing can be written: hours of
    work may come before the file.
    """
    if path.suffix in _COMPRESSED:
        raise TiebreakError(f"cannot write {path} compressed; name a file that ends in {', '.join(suffixes)}")
    if path.suffix not in suffixes:
        raise TiebreakError(f"cannot write {path}: {nearest(path.suffix, suffixes)}")
    try:
        _require_writable(path, suffixes, inputs)
    except OSError as error:
        raise TiebreakError(f"cannot write {path}: {error.strerror}; name another file") from None
    return path


def _require_writable(path: Path, suffixes: Sequence[str], inputs: Iterable[Path]) -> None:
    """Raise TiebreakError or OSError if no such file can be made; makes its folder."""
    if path.is_dir():
        raise TiebreakError(
            f"cannot write {path}: it is a folder; name a file that ends in {', '.join(suffixes)}"
        )
    if path.exists() and any(other.exists() and path.samefile(other) for other in inputs):
        raise TiebreakError(f"{path} is read by this command and would be lost; name another file")
    new_folder(path.parent)
    with suppress(FileNotFoundError):
        path.lstat()  # raises for a name that is too long
    partial = _partial(path)
    try:
        partial.open("xb").close()
    finally:
        partial.unlink(missing_ok=True)


def new_folder(path: Path) -> Path:
    """Make a folder if it is missing, and return its path. Raises TiebreakError if it cannot be written to."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TiebreakError(
            f"cannot write to the folder {path}: {error.strerror} ({error.filename}); name another"
        ) from None
    if not os.access(path, os.W_OK):
        raise TiebreakError(f"cannot write to the folder {path}: no permission; name another")
    return path


def inside(root: Path, *parts: str) -> Path:
    """The path of a place in the folder `root`, which may be a link itself.

    Raises TiebreakError if a link or `..` below it leads elsewhere: nothing is written through those.
    """
    path = root
    for part in Path(*parts).parts:
        path = path / part
        if part in ("..", os.sep) or path.is_symlink():
            raise TiebreakError(
                f"{path} is a link or leads out of {root}, and nothing there is read or written through those: "
                "move what it points to into the folder, or remove the link"
            )
    return path


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file to write, which takes its place at `path` at the end, and is removed if anything raises."""
    partial = _partial(path)
    try:
        with full_disk_as_error(path, is_file=True), open(partial, "xb", opener=no_link) as file:
            yield file
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """A folder to fill, which takes its place at `path` at the end, and is removed if anything raises."""
    partial = _partial(path)
    partial.mkdir(parents=True)
    try:
        with full_disk_as_error(path):
            yield partial
        remove(path)
        partial.rename(path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def write_atomically(path: Path, text: str) -> None:
    """Write a text file, and flush it to the disk before it takes its place."""
    with replacing(path) as file:
        file.write(text.encode())
        file.flush()
        os.fsync(file.fileno())


def replace_link(path: Path, target: Path) -> None:
    """Make a symbolic link at `path`, in place of a link or file that is there."""
    partial = _partial(path)
    partial.symlink_to(target)
    try:
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def no_link(path: str, flags: int) -> int:
    """The `opener` of `open` for files that are written where they stand: a link there is an error, and so is a pipe,
    which would be waited for.
    """
    require_regular(Path(path), "remove it")
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)


def remove(path: Path) -> None:
    """Remove a file, a folder with all that is in it, or a link, which is not followed; nothing if it is gone."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def drop_partials(folder: Path, seconds: float = _ABANDONED_SECONDS) -> None:
    """Remove what killed writers left in a folder under temporary names, if it is that old."""
    before = time.time() - seconds
    for partial in folder.glob(f"{_PREFIX}*{_SUFFIX}"):
        with suppress(FileNotFoundError):  # its writer is done
            if partial.lstat().st_mtime <= before:
                remove(partial)


def _partial(path: Path) -> Path:
    """A random name in the folder of `path`, from which leftovers are removed."""
    drop_partials(path.parent)
    return path.with_name(f"{_PREFIX}{os.urandom(8).hex()}{_SUFFIX}")
