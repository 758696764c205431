"""Work on the rows of files in pieces that are kept, so that a command goes on where it was stopped or killed.

A `Work` says how rows are read, what is computed of a piece of them, and which rows come of it; `run` does it, from files
or standard input, into a file or onto standard output.
"""

import queue
import shutil
import sys
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, Generic, Protocol, TypeVar

import pyarrow as pa

from tiebreak import __version__
from tiebreak.commands import row_files
from tiebreak.commands.row_progress import Progress, count_rows
from tiebreak.commands.unfinished import STANDARD_INPUT, Unfinished, check_place, prepared
from tiebreak.engine.workspace import content_fingerprint
from tiebreak.errors import Interrupted, TiebreakError
from tiebreak.output import new_file, replacing
from tiebreak.tokens.prefetch import prefetch
from tiebreak.votes.formats import containers, hub_datasets
from tiebreak.votes.formats.rows import Row as RawRow

STANDARD = Path("-")
"""Standard input or output, as JSON Lines."""
PIECE = 2048
"""Pairs that are judged at a time, and lost at most where a process is killed."""
_PIECE_CHARS = 16 << 20
_ARRIVING = 64
_RESTORE = "put back what was there and run the same command again, or begin anew: delete the folder"


class Item(Protocol):
    """A row to work on: why that cannot be, and the characters of its texts."""

    @property
    def error(self) -> str | None: ...
    @property
    def chars(self) -> int: ...


AnItem = TypeVar("AnItem", bound=Item)
Compute = Callable[[Sequence[AnItem], Callable[[float], None]], pa.Table]
"""What is computed of the items of a piece, a row an item; the other argument is told which share is done."""


class Work(ABC, Generic[AnItem]):
    """What a command makes of rows, in one pass over them or in several, as of several models."""

    name: str
    passes: int = 1
    last: Sequence[str] = ()
    """Columns of the output that come after all others."""

    @abstractmethod
    def depends_on(self) -> dict[str, Any]:
        """All but the inputs that the result depends on, by the words in which a difference is told."""

    @abstractmethod
    def items(self, files: Iterable[Path]) -> Iterator[AnItem]:
        """The items of files, the same ones each time; STANDARD is what arrives."""

    def sources(self, files: Iterable[Path]) -> Iterator[AnItem]:
        """What the rows of the output are made from, beside what was computed: items, or as much of them as that takes."""
        return self.items(files)

    @abstractmethod
    def load(self, number: int) -> Compute[AnItem]:
        """What a pass computes, with what it needs in memory."""

    @abstractmethod
    def rows(
        self, pieces: Iterable[tuple[Sequence[AnItem], Sequence[pa.Table]]], errors: bool
    ) -> Iterator[dict[str, Any]]:
        """The rows of the output, from the sources of each piece and what every pass computed. errors: some items have one."""

    def pairs(self, item: AnItem) -> int:
        """The pairs of an item that a judge is asked about, at most."""
        return 1

    def count(self, files: Sequence[Path]) -> int | None:
        """The number of items, where that is quickly told."""
        return count_rows(files)

    def types(self, files: Sequence[Path]) -> pa.Schema | None:
        """The types of the output's columns, where they are known, and the metadata of Parquet."""
        return None

    def finish(self, output: Path) -> None:
        """Write what belongs beside the output, just before that takes its place."""


@dataclass(frozen=True)
class Files:
    """What is read and written. shard: (k, n), the k-th of every n pieces, counted from 0. strict: a bad row is an error."""

    inputs: Sequence[Path]
    output: Path
    shard: tuple[int, int] = (0, 1)
    strict: bool = False

    def check(self, others: Sequence[Path] = (), suffixes: Sequence[str] = row_files.SUFFIXES) -> None:
        """Raise TiebreakError for an output that cannot be written or would replace an input or one of `others`."""
        if STANDARD in self.inputs and len(self.inputs) > 1:
            raise TiebreakError(
                "standard input (-) comes alone; write what it gives into a file to take it with others"
            )
        named = [path for path in (*self.inputs, *others) if path != STANDARD]
        read = containers.expand(path for path in named if path.exists())
        if self.output != STANDARD:
            place = self.output.parent.resolve() / self.output.name  # which a link at it does not change
            for path in named:
                if path.is_dir() and place.is_relative_to(path.resolve()):
                    raise TiebreakError(
                        f"{self.output} would lie in the folder {path}, all of which this command reads; name an output elsewhere"
                    )
            new_file(self.output, suffixes, read)
            check_place(self.output, read)
        elif self.shard != (0, 1):
            raise TiebreakError("standard output takes no shards; name a file with --output")

    def require_inputs(self) -> None:
        """Raise TiebreakError for inputs that are missing."""
        containers.expand(path for path in self.inputs if path != STANDARD)


@dataclass
class Outcome:
    """Rows read, those among them that could not be judged, with the first reason.

    finished: the output is there, which another process may have `written` meanwhile.
    """

    rows: int = 0
    unjudged: int = 0
    reason: str | None = None
    finished: bool = True
    written: bool = True

    def count(self, piece: Sequence[Item], strict: bool) -> None:
        """Count the rows of a piece. Raises TiebreakError if one cannot be judged and `strict` forbids it."""
        errors = [
            f"row {n}: {item.error}" for n, item in enumerate(piece, self.rows + 1) if item.error is not None
        ]
        self.rows += len(piece)
        self.unjudged += len(errors)
        self.reason = self.reason or next(iter(errors), None)
        if strict and errors:
            raise TiebreakError(
                f"a row cannot be judged, {self.reason}. Mend it, or leave out --strict: then it stays in the output, with "
                "the reason"
            )


def records(path: Path) -> Iterator[RawRow]:
    """The raw records of a file, or of what arrives on standard input."""
    return containers.arriving(sys.stdin.buffer) if path == STANDARD else containers.records(path)


def enough(path: Path) -> int:
    """The records to look at for a file's format: of what arrives the first, since no other may come before an answer."""
    return 1 if path == STANDARD else 50


def run(work: Work[AnItem], files: Files, stop: Callable[[], bool] = lambda: False) -> Outcome:
    """Do the work on all rows.

    Raises TiebreakError for files that cannot be read, and other inputs than those that an unfinished output has begun
    with; Interrupted, with what is done on disk, once `stop` returns True.
    """
    return _stream(work, files, stop) if files.output == STANDARD else _to_file(work, files, stop)


# --- into a file


def _to_file(work: Work[AnItem], files: Files, stop: Callable[[], bool]) -> Outcome:
    inputs = _inputs(files)
    state = _state(work, inputs)
    unfinished = Unfinished(files.output, _job(work, inputs))
    require_unchanged = partial(_require_unchanged, state, work, inputs, unfinished.folder)
    outcome, pieces = Outcome(), 0
    try:
        for number in range(work.passes):
            outcome, pieces = _pass(work, files, inputs, number, unfinished, require_unchanged, stop)
    except TiebreakError:
        if files.shard == (0, 1) and unfinished.is_empty():
            unfinished.remove()
        raise
    missing = [
        piece for piece in range(pieces) if any(not unfinished.has(n, piece) for n in range(work.passes))
    ]
    if missing:
        shard, shards = files.shard
        outcome.finished, outcome.written = unfinished.is_overtaken(), False
        if not outcome.finished and any(piece % shards == shard for piece in missing):
            raise TiebreakError(
                f"{unfinished.folder} has lost some of what was kept there; run the same command again"
            )
        return outcome
    if not pieces:
        unfinished.begin()
    with unfinished.finishing() as output:
        if output:
            rows = partial(_joined, work, inputs, unfinished, pieces, outcome.unjudged > 0)
            row_files.write(rows, output, work.types(inputs), work.last)
            require_unchanged()
            work.finish(files.output)
        outcome.written = output is not None
    return outcome


def _inputs(files: Files) -> list[Path]:
    """The files to read. What comes on standard input is kept in one, beside the output."""
    if list(files.inputs) != [STANDARD]:
        return list(map(_pinned, containers.expand(files.inputs)))
    kept = prepared(files.output) / STANDARD_INPUT
    with replacing(kept) as file:
        shutil.copyfileobj(sys.stdin.buffer, file)
    return [kept]


def _pinned(path: Path) -> Path:
    """The path; a data set of the hub at the commit that it has here, so that all processes read the same."""
    if not (data := hub_datasets.parse_location(path)):
        return path
    from tiebreak.model import hub

    return data.at(hub.commit(data.name, data.revision, "dataset"))


def _job(work: Work[AnItem], inputs: Sequence[Path]) -> Mapping[str, Any]:
    return (
        {"the command": work.name}
        | work.depends_on()
        | {
            "the inputs": [[path.name, _fingerprint(path)] for path in inputs],
            "the version of tiebreak": __version__,
            "the size of a piece": [PIECE, _PIECE_CHARS],
        }
    )


def _fingerprint(path: Path) -> str:
    return str(path) if hub_datasets.parse_location(path) else content_fingerprint(path)


def _state(work: Work[AnItem], inputs: Sequence[Path]) -> Mapping[str, Any]:
    """What is looked up in no time of all that the result depends on, by the words in which a difference is told."""
    files = [path.stat() for path in inputs if not hub_datasets.parse_location(path)]
    times = [(file.st_ino, file.st_size, file.st_mtime_ns) for file in files]
    return work.depends_on() | {"the inputs": times}


def _require_unchanged(
    before: Mapping[str, Any], work: Work[AnItem], inputs: Sequence[Path], folder: Path
) -> None:
    """Raise TiebreakError if anything that the result depends on has changed since this process began."""
    try:
        now = _state(work, inputs)
    except OSError as error:
        raise TiebreakError(
            f"{error.filename} was read by this command and is gone; {_RESTORE} {folder}"
        ) from None
    if changed := [name for name, value in before.items() if now[name] != value]:
        raise TiebreakError(
            f"{' and '.join(changed)} changed while this command read them, so no more is kept of it; {_RESTORE} {folder}"
        )


def _pass(
    work: Work[AnItem],
    files: Files,
    inputs: Sequence[Path],
    number: int,
    unfinished: Unfinished,
    require_unchanged: Callable[[], None],
    stop: Callable[[], bool],
) -> tuple[Outcome, int]:
    """Compute the missing pieces of this shard in one pass. Returns what all rows are, and the number of pieces."""
    shard, shards = files.shard
    compute: Compute[AnItem] | None = None
    outcome, count = Outcome(), 0
    name = work.name if work.passes == 1 else f"{work.name}, model {number + 1} of {work.passes}"
    with Progress(name, unfinished.folder, work.count(inputs)) as progress:
        for count, piece in enumerate(prefetch(_cut(work, inputs)), 1):
            if stop():
                raise Interrupted
            done = outcome.rows
            outcome.count(piece, files.strict)
            progress.reach(done)
            if (count - 1) % shards == shard and not unfinished.has(number, count - 1):
                compute = compute or work.load(number)
                report = partial(progress.within, done, len(piece))
                computed = compute(piece, report)
                require_unchanged()
                unfinished.write(number, count - 1, computed)
    return outcome, count


def _cut(work: Work[AnItem], inputs: Sequence[Path]) -> Iterator[list[AnItem]]:
    """All items in pieces, the same ones each time."""
    piece: list[AnItem] = []
    pairs = chars = 0
    for item in work.items(inputs):
        piece.append(item)
        pairs += work.pairs(item)
        chars += item.chars
        if pairs >= PIECE or chars >= _PIECE_CHARS:
            yield piece
            piece, pairs, chars = [], 0, 0
    if piece:
        yield piece


def _joined(
    work: Work[AnItem], inputs: Sequence[Path], unfinished: Unfinished, count: int, errors: bool
) -> Iterator[dict[str, Any]]:
    sources = work.sources(inputs)
    computed = ([unfinished.read(n, piece) for n in range(work.passes)] for piece in range(count))
    return work.rows(((list(islice(sources, len(tables[0]))), tables) for tables in computed), errors)


# --- onto standard output


def _stream(work: Work[AnItem], files: Files, stop: Callable[[], bool]) -> Outcome:
    """Compute and write piece by piece."""
    outcome = Outcome()
    out: BinaryIO = getattr(sys.stdout, "unguarded", sys.stdout).buffer
    passes = [work.load(number) for number in range(work.passes)]
    if list(files.inputs) == [STANDARD]:
        found = _arriving(work.items([STANDARD]))
    else:
        found = _cut(work, containers.expand(files.inputs))
    for piece in found:
        outcome.count(piece, files.strict)
        tables = [compute(piece, lambda _: None) for compute in passes]
        for row in work.rows([(piece, tables)], errors=False):
            out.write(row_files.json_line(row))
        out.flush()
        if stop():
            outcome.finished = False
            break
    return outcome


def _arriving(items: Iterable[AnItem]) -> Iterator[list[AnItem]]:
    """What has come so far, in pieces, so that no item waits for others."""
    came: queue.Queue[tuple[AnItem | None, BaseException | None]] = queue.Queue(2 * _ARRIVING)

    def read() -> None:
        try:
            for item in items:
                came.put((item, None))
            came.put((None, None))
        except BaseException as error:
            came.put((None, error))

    threading.Thread(target=read, daemon=True).start()
    while True:
        some = [came.get()]
        while len(some) < _ARRIVING and not came.empty():
            some.append(came.get())
        if piece := [item for item, _ in some if item is not None]:
            yield piece
        last, error = some[-1]
        if error:
            raise error
        if last is None:
            return
