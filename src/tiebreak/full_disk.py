"""Full disks: which file system has no room, how much it has, and what mends it.

Libraries say only that there is no space, and not where. So the disks that a step may write to are asked at the moment of
the error, before anything is removed.
"""

import errno
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tiebreak.errors import TiebreakError

STANDARD_OUTPUT = "standard output"
"""What an error about standard output has as the name of its file; which disk that is, only the shell knows."""
_BLOCK = 64 * 2**10
"""Bytes below which nothing worth the name can be written."""


class FullDisk(TiebreakError):
    """A file system without room, or a quota that is used up."""


@contextmanager
def full_disk_as_error(place: Path, is_file: bool = False) -> Iterator[None]:
    """Convert any library's error about a full disk into a FullDisk that names the disk.

    place: what is written within, for errors that name no file; is_file: it is the very file that is written.
    """
    try:
        yield
    except FullDisk:
        raise
    except Exception as error:
        found = _cause(error)
        if found is None or getattr(error, "filename", None) == STANDARD_OUTPUT:
            raise
        raise FullDisk(_text(found, place, is_file)) from error


def full_disks(places: Iterable[Path]) -> list[str]:
    """Lines on those of the places, and of the folders of temporary files and caches, whose disk has no room."""
    known = {place.absolute(): "free some space there" for place in places} | _others()
    full = {
        _device(place): f"{place} has no room ({_room(_existing(place))}): {remedy}"
        for place, remedy in reversed(known.items())
        if _is_full(_existing(place))
    }
    return list(reversed(full.values()))


def _text(error: BaseException, place: Path, is_file: bool) -> str:
    """What is full: the file that the error names, or else whichever disk has no room."""
    quota = getattr(error, "errno", None) == errno.EDQUOT or "quota" in str(error)
    what = "your quota is used up" if quota else "the disk is full"
    mend = "free some there, or ask for more (quota -s)" if quota else "free some space there"
    again = "nothing finished is lost; then run the same command again"
    name = getattr(error, "filename2", None) or getattr(error, "filename", None)  # of a copy, the second
    if is_file or isinstance(name, str):
        path = place.absolute() if is_file else Path(name or place).absolute()
        within = (other for other in _others() if not place.absolute().is_relative_to(other))
        mend = next((_others()[other] for other in within if path.is_relative_to(other)), mend)
        return f"{what}: cannot write {path} ({_room(_existing(path))}): {mend}; {again}"
    if found := full_disks([place]):
        return f"{what}: {'; '.join(found)}; {again}"
    rooms = {
        _device(asked): f"{asked} ({_room(_existing(asked))})" for asked in (*_others(), place.absolute())
    }
    return f"{what}, that of {' or '.join(reversed(rooms.values()))}: {mend}; {again}"


def _others() -> dict[Path, str]:
    """Where libraries write beside the output, each with what mends it."""
    temporary = Path(os.environ.get("TMPDIR") or tempfile.gettempdir())  # which passes by one that is full
    hub = os.environ.get("HF_HUB_CACHE") or Path(os.environ.get("HF_HOME") or "~/.cache/huggingface", "hub")
    inductor = os.environ.get("TORCHINDUCTOR_CACHE_DIR") or temporary / f"torchinductor_{os.getuid()}"
    triton = os.environ.get("TRITON_CACHE_DIR") or "~/.triton"
    named = (
        (hub, "free some space there, or set HF_HOME to a folder with more (models of the hub)"),
        (triton, "free some space there, or set TRITON_CACHE_DIR (compiled code)"),
        (temporary, "free some space there, or set TMPDIR (temporary files)"),
        (inductor, "free some space there, or set TORCHINDUCTOR_CACHE_DIR (compiled code)"),
    )
    return {Path(place).expanduser().absolute(): remedy for place, remedy in named}


def _existing(path: Path) -> Path:
    return next(folder for folder in (path, *path.parents) if folder.exists())


def _device(path: Path) -> int:
    """The number of the file system that a path is on, or would be."""
    return _existing(path).stat().st_dev


def _is_full(folder: Path) -> bool:
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize < _BLOCK or (found.f_files > 0 and found.f_favail == 0)


def _room(folder: Path) -> str:
    """The file system of a folder, by where it is mounted, with what is free on it."""
    mount = next(place for place in (folder.resolve(), *folder.resolve().parents) if os.path.ismount(place))
    found = os.statvfs(folder)
    if found.f_files > 0 and found.f_favail == 0:
        return f"file system {mount}: no more files, {found.f_files} are there"
    return f"file system {mount}: {_size(found.f_bavail * found.f_frsize)} of {_size(found.f_blocks * found.f_frsize)} free"


def _size(count: int) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.1f} MiB"


def _cause(error: BaseException | None) -> BaseException | None:
    """The error in a chain that is about a full disk, rather one that names a file."""
    found = None
    while error is not None:
        full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
        if full or "No space left on device" in str(error) or "Disk quota exceeded" in str(error):
            if getattr(error, "filename", None):
                return error
            found = found or error
        error = error.__cause__ or error.__context__
    return found
