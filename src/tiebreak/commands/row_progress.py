"""Progress through the rows of files: how many are done, of how many, on stderr."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tiebreak.console import Terminal
from tiebreak.engine.progress import Display, Reporter
from tiebreak.votes.parquet import opened


class Progress:
    """Rows done, of how many if that is known, on stderr."""

    def __init__(self, name: str, folder: Path, total: int | None) -> None:
        self._name, self._folder, self._total = name, folder, total
        self._display = Display(Terminal(stderr=True), 1)
        self._reporter = Reporter(folder, lambda text: self._display.progress(name, text), 1)
        self._done = 0

    def __enter__(self) -> "Progress":
        self._display.__enter__()
        self._display.start(self._name)
        return self

    def __exit__(self, *_: object) -> None:
        self._display.__exit__()

    def within(self, before: int, count: int, share: float) -> None:
        """Note a share of the `count` rows that come after `before` others."""
        self.reach(before + int(share * count))

    def reach(self, done: int) -> None:
        """Note how many rows are done; what is less than before counts as before."""
        self._done = max(self._done, done)
        with suppress(FileNotFoundError):  # another process has finished, and the folder is gone
            self._reporter("judging", self._done, max(self._total or 0, self._done), "rows")
        self._display.refresh({self._name: self._folder})


def count_rows(files: Sequence[Path]) -> int | None:
    """The number of rows, where that is quickly told: of Parquet, and of JSON Lines by their ends."""
    counts = [count for path in files if (count := _count_file(path)) is not None]
    return sum(counts) if len(counts) == len(files) else None


def _count_file(path: Path) -> int | None:
    try:
        with path.open("rb") as file:
            match file.read(1):
                case b"P":
                    return int(pq.read_metadata(opened(path)).num_rows)
                case b"{":
                    return sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b""))
    except (OSError, pa.ArrowException):
        pass
    return None
