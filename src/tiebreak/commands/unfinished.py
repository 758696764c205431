"""What is computed for a file that is being written: pieces in a folder beside it, from which the same command goes on."""

import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tiebreak import json_files
from tiebreak.engine.artifacts import LOCK, PROGRESS, lock
from tiebreak.errors import TiebreakError
from tiebreak.output import drop_partials, new_folder, replacing, write_atomically

_JOB = "job.json"
STANDARD_INPUT = "stdin.jsonl"
"""What came on standard input, kept with the pieces."""
_OURS = re.compile(
    r"\d+-\d{8,}\.piece|output\.\w+|" + "|".join(map(re.escape, (_JOB, STANDARD_INPUT, PROGRESS, LOCK)))
)


def prepared(output: Path) -> Path:
    """The folder of the pieces of an output, which is made if it is missing. Raises TiebreakError as `check_place` does."""
    check_place(output)
    return new_folder(_folder_of(output))


def check_place(output: Path, inputs: Iterable[Path] = ()) -> None:
    """Raise TiebreakError where the pieces of an output cannot lie.

    In a link, in a folder that holds anything else, or inputs of the command: nothing in either may be lost.
    """
    folder = _folder_of(output)
    try:
        is_link, found = folder.is_symlink(), list(folder.iterdir()) if folder.exists() else []
    except OSError as error:
        raise TiebreakError(
            f"nothing can be kept in {folder}: {error.strerror}; name another output"
        ) from None
    if is_link:
        raise TiebreakError(
            f"{folder} is a link, and nothing is kept through those; remove it, or name another output"
        )
    for path in found:
        if not (path.name.startswith(".") or _OURS.fullmatch(path.name)):
            raise TiebreakError(
                f"{folder} holds {path.name}, which is none of what is kept there while {output.name} is written; move the "
                "folder elsewhere, or name another output"
            )
    for path in inputs:
        if path.resolve().is_relative_to(folder.resolve()):
            raise TiebreakError(
                f"{path} lies in {folder}, which goes once {output.name} is written; move it elsewhere, or name another output"
            )


def _folder_of(output: Path) -> Path:
    return output.with_name(f"{output.name}.unfinished")


def _identity(path: Path) -> tuple[int, ...] | None:
    """What tells a file from the one that takes its place; None if there is none."""
    with suppress(FileNotFoundError):
        found = path.lstat()
        return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
    return None


class Unfinished:
    """The tables of every pass over the rows, as of each model, piece by piece. The folder is made with the first piece.

    job: what they depend on. Raises TiebreakError if the folder holds those of another job, and as `prepared` does.
    """

    def __init__(self, output: Path, job: Mapping[str, Any]) -> None:
        self.output, self.folder = output, _folder_of(output)
        self._job = json.dumps(job, indent=2)
        self._output_before = _identity(output)
        if self.folder.is_dir():
            prepared(output)
            if not self.is_empty():
                self._require_same()

    def begin(self) -> None:
        """Make the folder and note the job. Raises TiebreakError if the folder holds pieces of another one."""
        prepared(self.output)
        if self.is_empty():
            write_atomically(self.folder / _JOB, self._job + "\n")
        self._require_same()

    def _require_same(self) -> None:
        otherwise = "delete the folder, or name another output"
        before, job = json_files.read_object(self.folder / _JOB, otherwise), json.loads(self._job)
        if before != job:
            other = [name for name, value in job.items() if before.get(name) != value]
            raise TiebreakError(
                f"{self.folder} holds a part of other predictions: {' and '.join(other)} differ. Finish those with "
                f"their own command, {otherwise}"
            )

    def is_empty(self) -> bool:
        """True if no piece is here, so that nothing is lost with the folder."""
        return next(self.folder.glob("*-*.piece"), None) is None

    def is_overtaken(self) -> bool:
        """True if another process has finished since this one began: the output is a new one."""
        return _identity(self.output) not in (None, self._output_before)

    def _path(self, number: int, piece: int) -> Path:
        return self.folder / f"{number}-{piece:08d}.piece"

    def has(self, number: int, piece: int) -> bool:
        return self._path(number, piece).is_file()

    def write(self, number: int, piece: int, table: pa.Table) -> None:
        """Keep a piece: Parquet, and behind it a hash; not where another process has finished.

        Raises TiebreakError if the folder holds those of another job by now.
        """
        if self.is_overtaken() and not self.folder.is_dir():
            return
        data = io.BytesIO()
        pq.write_table(table, data, compression="zstd")
        self.begin()
        try:
            with replacing(self._path(number, piece)) as file:
                file.write(data.getvalue() + self._hash(data.getvalue()))
        except FileNotFoundError:
            if not self.is_overtaken():
                raise

    def read(self, number: int, piece: int) -> pa.Table:
        """A piece. Raises TiebreakError for one that is not what was written, for this job, and removes it."""
        path = self._path(number, piece)
        data = path.read_bytes()
        size = len(data) - sha256().digest_size
        if data[size:] == self._hash(data[:size]):
            return pq.read_table(pa.BufferReader(data[:size]))
        path.unlink(missing_ok=True)
        raise TiebreakError(f"{path} was damaged and is gone; run the same command again")

    def _hash(self, piece: bytes) -> bytes:
        """The hash of a piece and the job: two that begin at once could write into one folder."""
        return sha256(self._job.encode() + piece).digest()

    @contextmanager
    def finishing(self) -> Iterator[Path | None]:
        """The turn to write the output from the pieces, which then go: where to write it; None if another process has.

        It takes its place at the end, so that a killed writer leaves nothing beside it.
        """
        with lock(self.folder):
            if not (self.folder / _JOB).is_file():
                yield None
            else:
                self._require_same()
                yield (written := self.folder / f"output{self.output.suffix}")
                written.replace(self.output)
            self.remove()

    def remove(self) -> None:
        """Remove the folder, unless another process has; what says whose pieces these are goes last. Files of others stay."""
        with suppress(OSError):
            drop_partials(self.folder, seconds=0)
            for path in sorted(self.folder.iterdir(), key=lambda path: path.name == _JOB):
                if _OURS.fullmatch(path.name):
                    path.unlink(missing_ok=True)
            self.folder.rmdir()
