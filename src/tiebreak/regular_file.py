"""Regular files: a pipe would be waited for and a device read without end, so neither is opened to read."""

import stat
from pathlib import Path

from tiebreak.errors import TiebreakError

_OTHERS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}


def require_regular(path: Path, mend: str = "write what is to be read into a file") -> None:
    """Raise TiebreakError for what is there and is no file. Links are followed; a path with nothing at it passes."""
    if path.exists() and (other := _OTHERS.get(stat.S_IFMT(path.stat().st_mode))):
        raise TiebreakError(f"{path} is {other}, not a file; {mend}")
