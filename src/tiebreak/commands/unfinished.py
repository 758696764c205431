"""What is computed for a file that is being written: pieces in a folder beside it, from which the same command goes on."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tiebreak.engine.artifacts import lock
from tiebreak.errors import TiebreakError
from tiebreak.output import new_folder, write_atomically
from tiebreak.regular_file import require_regular
from tiebreak.votes.schema import write_table

_JOB = "job.json"


def folder_of(output: Path) -> Path:
    """The folder of the pieces of an output."""
    return output.with_name(f"{output.name}.unfinished")


class Unfinished:
    """The tables of every pass over the rows, as of each model, piece by piece.

    job: what they depend on. Raises TiebreakError if the folder holds those of another job.
    """

    def __init__(self, output: Path, job: Mapping[str, Any]) -> None:
        self.output = output
        self.folder = folder_of(output)
        self.is_new = not self.folder.is_dir()
        new_folder(self.folder)
        if self.is_empty():
            write_atomically(self.folder / _JOB, json.dumps(job, indent=2) + "\n")
        self._require_same(job)

    def _require_same(self, job: Mapping[str, Any]) -> None:
        require_regular(self.folder / _JOB, f"delete {self.folder}")
        try:
            before = json.loads((self.folder / _JOB).read_text(encoding="utf-8"))
        except ValueError:
            before = {}
        if before != json.loads(json.dumps(job)):
            other = [name for name, value in job.items() if before.get(name) != value]
            raise TiebreakError(
                f"{self.folder} holds a part of other predictions: {' and '.join(other)} differ. Finish those with "
                "their own command, delete the folder, or name another output"
            )

    def is_empty(self) -> bool:
        """True if no piece is here, so that nothing is lost with the folder."""
        return next(self.folder.glob("*-*.parquet"), None) is None

    def _path(self, number: int, piece: int) -> Path:
        return self.folder / f"{number}-{piece:08d}.parquet"

    def has(self, number: int, piece: int) -> bool:
        return self._path(number, piece).is_file()

    def write(self, number: int, piece: int, table: pa.Table) -> None:
        write_table(table, self._path(number, piece))

    def read(self, number: int, piece: int) -> pa.Table:
        try:
            return pq.read_table(self._path(number, piece))
        except pa.ArrowException:
            self._path(number, piece).unlink()
            raise TiebreakError(
                f"{self._path(number, piece)} was damaged and is gone; run the same command again"
            ) from None

    @contextmanager
    def finishing(self) -> Iterator[Path | None]:
        """The turn to write the output from the pieces, which then go: where to write it; None if another process has.

        It takes its place at the end, so that a killed writer leaves nothing beside it.
        """
        with lock(self.folder):
            if not (self.folder / _JOB).is_file():
                yield None
            else:
                yield (written := self.folder / f"output{self.output.suffix}")
                written.replace(self.output)
            self.remove()

    def remove(self) -> None:
        """Remove the folder, unless another process has; what says whose pieces these are goes last."""
        with suppress(FileNotFoundError):
            for path in sorted(self.folder.iterdir(), key=lambda path: path.name == _JOB):
                path.unlink(missing_ok=True)
            self.folder.rmdir()
