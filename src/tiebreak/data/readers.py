"""Votes out of files of any format, in batches of the one schema; every bad row is set aside with its reason.

Records in = records accepted + rejects, always.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from pathlib import Path
from typing import NoReturn

import pyarrow as pa

from tiebreak.data import sources
from tiebreak.data.dialog import RowError
from tiebreak.data.shapes import COLUMNS, SHAPES, Reading, Shape, Vote, content_id, recognise
from tiebreak.data.sources import Record, Row
from tiebreak.data.votes import SCHEMA
from tiebreak.errors import TiebreakError
from tiebreak.recipe import Role

REJECTS_SCHEMA = pa.schema([("file", pa.string()), ("row", pa.int64()), ("reason", pa.string())])

OR_INCOMPLETE = ", or take what comes before: --set data.incomplete_files=true"

_SAMPLE = 50
_PATIENCE = 1000
_BATCH_ROWS = 4096
_BATCH_CHARS = 16 << 20


@dataclass
class Batch:
    """Votes in SCHEMA, and the records that were no votes, as (file, row, reason)."""

    votes: pa.RecordBatch
    rejects: list[tuple[str, int, str]]
    records: int


@dataclass
class _Pending:
    """What the next batch will hold."""

    votes: list[Vote] = field(default_factory=list)
    rejects: list[tuple[str, int, str]] = field(default_factory=list)
    records: int = 0
    chars: int = 0

    def full(self) -> bool:
        return len(self.votes) + len(self.rejects) >= _BATCH_ROWS or self.chars >= _BATCH_CHARS

    def batch(self) -> Batch:
        return Batch(_record_batch(self.votes), self.rejects, self.records)


def read(paths: Sequence[Path], role: Role = "votes", pairs_per_prompt: int | None = None) -> Iterator[Batch]:
    """Stream the votes of files and folders. `test` needs no labels and ignores those that are there.

    Ids are unique over all files: one that is repeated within a file is a reject, one that another file has
    gets the file's name in front; where a file has none they are made from the texts.
    Raises TiebreakError for a missing file, a format or columns that are not known.
    """
    owners: dict[str, Path] = {}
    for path in sources.expand(paths):
        yield from _read_file(path, role, pairs_per_prompt, owners)


def read_all(paths: Sequence[Path], role: Role = "votes") -> tuple[pa.Table, pa.Table]:
    """All votes in SCHEMA and all rejects in REJECTS_SCHEMA, in memory."""
    batches = list(read(paths, role))
    votes = pa.Table.from_batches([batch.votes for batch in batches], schema=SCHEMA)
    return votes, rejects_table([reject for batch in batches for reject in batch.rejects])


def read_whole(path: Path, role: Role) -> pa.Table:
    """The votes or pairs of a file. Raises TiebreakError if it has none, or any of its rows cannot be read."""
    table, rejects = read_all([path], role)
    if len(rejects):
        first = rejects.slice(0, 1).to_pylist()[0]
        raise TiebreakError(
            f"{len(rejects)} of the rows in {path} cannot be read, the first is row {first['row']}: "
            f"{first['reason']}; mend or remove them"
        )
    if not len(table):
        raise TiebreakError(f"no rows in {path}; a pair needs prompt, response_a and response_b")
    return table


def rejects_table(rejects: Sequence[tuple[str, int, str]]) -> pa.Table:
    """Rejects as a table in REJECTS_SCHEMA."""
    return pa.Table.from_pylist(
        [dict(zip(REJECTS_SCHEMA.names, reject, strict=True)) for reject in rejects], schema=REJECTS_SCHEMA
    )


def refuse_incomplete(rejects: Sequence[tuple[str, int, str]], otherwise: str = "") -> None:
    """Raises TiebreakError, with another way out, if one of the rejects stands for the rest of a file.

    It may hide any number of votes.
    """
    for file, row, reason in rejects:
        if kind(reason) == sources.LOST:
            raise TiebreakError(f"{file} {reason}, at record {row}. Fetch or mend the file{otherwise}")


def refuse_rejected(names: Sequence[str], records: int, made: int, kinds: Counter[str], most: float) -> None:
    """Raises TiebreakError if files have no rows, more than the share `most` of them rejects, or no votes."""
    named = ", ".join(names)
    if not records:
        raise TiebreakError(f"no rows in {named}")
    share = kinds.total() / records
    if share > most:
        raise TiebreakError(
            f"{kinds.total()} of {records} rows in {named} cannot be used ({share:.1%}, allowed are "
            f"{most:.1%}): {summary(kinds)}. Mend the files, or allow more: "
            f"--set data.max_rejected_share={share + 0.01:.2f}"
        )
    if not made:
        raise no_votes(names, kinds)


def kind(reason: str) -> str:
    """What a reason has in common with others of its kind."""
    return reason.partition(":")[0]


def summary(kinds: Counter[str]) -> str:
    """`12 not UTF-8, 3 no label`, the most frequent first."""
    return ", ".join(f"{count} {what}" for what, count in kinds.most_common())


def no_votes(names: Iterable[str], kinds: Counter[str]) -> TiebreakError:
    """What to raise where files hold rejects of these kinds, or nothing, but no vote."""
    return TiebreakError(f"no usable votes in {', '.join(names)}: {summary(kinds) or 'no rows'}")


def _read_file(
    path: Path, role: Role, pairs_per_prompt: int | None, owners: dict[str, Path]
) -> Iterator[Batch]:
    rows = sources.records(path, COLUMNS)
    sample, good = _sample(rows)
    if not sample:
        return
    shape, how = recognise(good, role not in ("test", "unlabelled")) or _unknown(path, sample, good)
    how = replace(how, pairs_per_prompt=pairs_per_prompt)
    pending = _Pending()
    for row, record in chain(sample, rows):
        pending.records += 1
        try:
            votes = [_named(vote, path, owners) for vote in _votes(shape, record, how)]
        except RowError as error:
            pending.rejects.append((str(path), row, str(error)))
        else:
            pending.votes += votes
            pending.chars += sum(map(_chars, votes))
        if pending.full():
            yield pending.batch()
            pending = _Pending()
    yield pending.batch()


def _sample(rows: Iterator[Row]) -> tuple[list[Row], list[Record]]:
    """The first rows, until enough of them are good to tell the shape."""
    sample: list[Row] = []
    good: list[Record] = []
    for row in islice(rows, _PATIENCE):
        sample.append(row)
        if isinstance(row[1], dict):
            good.append(row[1])
        if len(good) == _SAMPLE:
            break
    return sample, good


def _unknown(path: Path, sample: list[Row], good: list[Record]) -> NoReturn:
    if not good:
        raise TiebreakError(f"none of the first {len(sample)} rows of {path} can be read: {sample[0][1]}")
    found = ", ".join(sorted(set().union(*good)))
    known = "\n".join(f"  {', '.join(shape.needs)}" for shape in SHAPES)
    raise TiebreakError(
        f"{path} has the columns {found:.500}. Needed is one of these sets, the first two with winner, "
        f"or with winner_model_a, winner_model_b, winner_tie, or with p_a, p_b, p_tie:\n{known}"
    )


def _votes(shape: Shape, record: Record | str, how: Reading) -> list[Vote]:
    if isinstance(record, str):
        raise RowError(record)
    return shape.votes(record, how)


def _named(vote: Vote, path: Path, owners: dict[str, Path]) -> Vote:
    """The vote with an id that no other has. `owners` says which file has taken an id."""
    name = vote.id
    if name is None:
        name = content_id(vote)
    elif owners.get(name) is path:
        raise RowError(f"duplicate id: {name}")
    repeat = 1
    while name in owners:
        repeat += 1
        name = f"{path.stem}/{vote.id}" if vote.id and repeat == 2 else f"{name}-{repeat}"
    owners[name] = path
    return vote._replace(id=name)


def _chars(vote: Vote) -> int:
    return sum(len(turn or "") for turns in vote[1:4] for turn in turns)


def _record_batch(votes: list[Vote]) -> pa.RecordBatch:
    nothing = (None, None, None)
    rows = [(*vote[:6], *(vote.p or nothing), vote.weight) for vote in votes]
    columns = list(zip(*rows, strict=True)) if rows else [()] * len(SCHEMA)
    return pa.RecordBatch.from_arrays(
        [pa.array(column, field.type) for column, field in zip(columns, SCHEMA, strict=True)], schema=SCHEMA
    )
