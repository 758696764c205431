"""Predictions of a file that is being written: pieces in a folder beside it, from which the same command goes on."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from tiebreak.engine.artifacts import lock
from tiebreak.errors import TiebreakError
from tiebreak.output import new_folder, write_atomically
from tiebreak.regular_file import require_regular
from tiebreak.votes.schema import probabilities, probability_columns, write_table

if TYPE_CHECKING:
    from tiebreak.stats.metrics import Array

_JOB = "job.json"


def folder_of(output: Path) -> Path:
    """The folder of the pieces of an output."""
    return output.with_name(f"{output.name}.unfinished")


class Unfinished:
    """The pieces of predictions (pairs, 3) of each model, by number. NaN stands for a pair that cannot be judged.

    job: what the predictions depend on. Raises TiebreakError if the folder holds those of another job.
    """

    def __init__(self, output: Path, job: Mapping[str, Any]) -> None:
        self.output = output
        self.folder = new_folder(folder_of(output))
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

    def _path(self, model: int, piece: int) -> Path:
        return self.folder / f"{model}-{piece:08d}.parquet"

    def has(self, model: int, piece: int) -> bool:
        return self._path(model, piece).is_file()

    def write(self, model: int, piece: int, p_NC: "Array") -> None:
        write_table(pa.table(probability_columns(p_NC)), self._path(model, piece))

    def read(self, model: int, piece: int) -> "Array":
        try:
            return probabilities(pq.read_table(self._path(model, piece)))
        except (pa.ArrowException, KeyError):
            self._path(model, piece).unlink()
            raise TiebreakError(
                f"{self._path(model, piece)} was damaged and is gone; run the same command again"
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
        """Remove the folder; what says whose pieces these are goes last."""
        for path in sorted(self.folder.iterdir(), key=lambda path: path.name == _JOB):
            path.unlink(missing_ok=True)
        self.folder.rmdir()
