"""Checks of output paths, before a command writes to them."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from tiebreak.errors import TiebreakError, nearest


def new_file(path: Path, suffixes: Sequence[str], inputs: Iterable[Path] = ()) -> Path:
    """Check the path of a file to write, make its folder, and return the path.

    Raises TiebreakError for another suffix, a folder, one of the `inputs`, and a folder without write permission.
    """
    if path.suffix not in suffixes:
        raise TiebreakError(f"cannot write {path}: {nearest(path.suffix, suffixes)}")
    if path.is_dir():
        raise TiebreakError(
            f"cannot write {path}: it is a folder; name a file that ends in {', '.join(suffixes)}"
        )
    if path.exists() and any(other.exists() and path.samefile(other) for other in inputs):
        raise TiebreakError(f"{path} is read by this command and would be lost; name another file")
    new_folder(path.parent)
    return path


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
