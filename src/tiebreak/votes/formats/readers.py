"""Readers of votes from files of any format, in batches of one schema; bad rows are rejected with a reason.

Records in = records accepted + rejects, always.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any, NoReturn

import pyarrow as pa
import pyarrow.compute as pc

from tiebreak.errors import TiebreakError
from tiebreak.recipe.values import Role
from tiebreak.votes.formats import containers
from tiebreak.votes.formats.candidates import RANK, is_candidates
from tiebreak.votes.formats.dialog import RowError
from tiebreak.votes.formats.labels import OtherScale
from tiebreak.votes.formats.mapping import NO_MAP, ColumnMap, fields_of, require_columns
from tiebreak.votes.formats.record_formats import (
    COLUMNS,
    RECORD_FORMATS,
    ReadOptions,
    RecordFormat,
    detect_format,
)
from tiebreak.votes.formats.rows import TRUNCATED, Record, Row, Unended
from tiebreak.votes.formats.vote import Vote, content_id
from tiebreak.votes.schema import LABELS, SCHEMA

REJECTS_SCHEMA = pa.schema(
    [("file", pa.string()), ("row", pa.int64()), ("kind", pa.string()), ("reason", pa.string())]
)
"""kind: what is counted; reason: the same with what it is in this row."""

OR_INCOMPLETE = ", or let a recipe take what comes before: --set data.incomplete_files=true"

_SAMPLE = 50
_MAX_SAMPLED = 1000
_BATCH_ROWS = 4096
_BATCH_CHARS = 16 << 20
_MOST_KINDS = 10


@dataclass(frozen=True)
class Reject:
    """A record that is no vote: where it is, and why."""

    file: str
    row: int
    error: RowError


@dataclass
class Batch:
    """Votes in SCHEMA, and the rejected records."""

    votes: pa.RecordBatch
    rejects: list[Reject]
    records: int


@dataclass
class _Pending:
    """The contents of the next batch."""

    votes: list[Vote] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)
    records: int = 0
    chars: int = 0

    def full(self) -> bool:
        return len(self.votes) + len(self.rejects) >= _BATCH_ROWS or self.chars >= _BATCH_CHARS

    def batch(self) -> Batch:
        return Batch(record_batch(self.votes), self.rejects, self.records)


class Ids:
    """Unique ids over the files of a reading. `_owners` is the file of each, `_repeats` how often a made one came."""

    def __init__(self) -> None:
        self._owners: dict[str, Path] = {}
        self._repeats: Counter[str] = Counter()

    def unique(self, vote: Vote, path: Path) -> Vote:
        """The vote with an id that no other has. Raises RowError if its own is repeated within the file."""
        name = vote.id or vote.question_id or content_id(vote)
        if vote.id and self._owners.get(name) is path:
            raise RowError("duplicate id", name)
        if name in self._owners and vote.id:
            name = f"{path.stem}/{name}"
        elif name in self._owners and vote.question_id:
            name = f"{name}-{content_id(vote)}"
        while name in self._owners:
            self._repeats[name] += 1
            name = f"{name}-{self._repeats[name] + 1}"
        self._owners[name] = path
        return vote if vote.id == name else vote._replace(id=name)


def read(
    paths: Sequence[Path],
    role: Role = "votes",
    pairs_per_prompt: int | None = None,
    mapping: ColumnMap = NO_MAP,
) -> Iterator[Batch]:
    """Stream the votes of files and folders. With the role `test`, labels are not needed and are ignored.

    A file takes what it has of the mapped columns; `require_mapped` says whether any has them. Ids are unique over all files: one that is repeated within a file is a reject, one that another file has
    gets the file's name in front; a question_id, which several votes may share, the texts' hash behind it where it is
    repeated; where a file has no ids they are made from the texts.
    Raises TiebreakError for a missing file, a format or columns that are not known.
    """
    ids = Ids()
    for path in containers.expand(paths):
        yield from _read_file(path, role, pairs_per_prompt, mapping, ids)


def require_mapped(paths: Sequence[Path], mapping: ColumnMap, labelled: bool = True) -> None:
    """Raise TiebreakError for a mapped column that the first records of no file have. Without a mapping nothing is read."""
    if mapping:
        files = {}
        for path in containers.expand(paths):
            first = (record for _, record in islice(containers.records(path), _SAMPLE))
            files[str(path)] = set().union(*(record for record in first if isinstance(record, dict)))
        require_columns(files, mapping, labelled)


def columns_not_read(path: Path, role: Role, mapping: ColumnMap = NO_MAP) -> list[str]:
    """The columns of a file's first records that no vote is made of, sorted. Raises TiebreakError as `read` does."""
    rows = list(islice(containers.records(path), _SAMPLE))
    found = detected(path, iter(rows), _is_labelled(role), mapping=mapping)
    if found is None:
        return []
    record_format, options, _ = found
    columns = set().union(*(record for _, record in rows if isinstance(record, dict)))
    return record_format.not_read(columns, options)


def _is_labelled(role: Role) -> bool:
    return role not in ("test", "unlabelled")


def read_all(
    paths: Sequence[Path], role: Role = "votes", mapping: ColumnMap = NO_MAP
) -> tuple[pa.Table, pa.Table]:
    """All votes in SCHEMA and all rejects in REJECTS_SCHEMA, in memory."""
    batches = list(read(paths, role, mapping=mapping))
    votes = pa.Table.from_batches([batch.votes for batch in batches], schema=SCHEMA)
    return votes, rejects_table([reject for batch in batches for reject in batch.rejects])


def read_whole(path: Path, role: Role, mapping: ColumnMap = NO_MAP) -> pa.Table:
    """The votes or pairs of a file. Raises TiebreakError if it has none, any of its rows cannot be read, or a mapped column
    is missing.
    """
    require_mapped([path], mapping, role == "votes")
    table, rejects = read_all([path], role, mapping)
    if len(rejects):
        first = rejects.slice(0, 1).to_pylist()[0]
        kinds = Counter(rejects["kind"].to_pylist())
        raise not_whole(path, len(rejects), first["row"], first["reason"], kinds)
    if not len(table):
        raise TiebreakError(f"no rows in {path}; a pair needs prompt, response_a and response_b")
    return table


def not_whole(
    path: Path, rejects: int, row: int, reason: str, kinds: Counter[str] | None = None
) -> TiebreakError:
    """The error for a file with rows that cannot be read, the first of them in `row`; of several kinds with their counts."""
    every = f" (in all {summary(kinds)})" if kinds and len(kinds) > 1 else ""
    return TiebreakError(
        f"{rejects} of the rows in {path} cannot be read, the first is row {row}: {reason}; mend or remove them{every}"
    )


def rejects_table(rejects: Sequence[Reject]) -> pa.Table:
    """Rejects as a table in REJECTS_SCHEMA."""
    rows = [
        {"file": reject.file, "row": reject.row, "kind": reject.error.kind, "reason": str(reject.error)}
        for reject in rejects
    ]
    return pa.Table.from_pylist(rows, schema=REJECTS_SCHEMA)


def require_complete(rejects: Iterable[Reject], otherwise: str = "") -> None:
    """Raise TiebreakError, with an alternative in its text, if one of the rejects stands for the rest of a file.

    The rest may hold any number of votes.
    """
    for reject in rejects:
        if reject.error.kind == TRUNCATED:
            raise TiebreakError(
                f"{reject.file} {reject.error}, at record {reject.row}. Fetch or mend the file{otherwise}"
            )


def require_usable(
    names: Sequence[str], records: int, made: int, kinds: Counter[str], most: float, weightless: int
) -> None:
    """Raise TiebreakError if files have no rows, a larger share of rejects than `most`, no votes, or `weightless` ones alone."""
    named = ", ".join(names)
    if not records:
        raise TiebreakError(f"no rows in {named}")
    share = kinds.total() / records
    if share > most:
        raise TiebreakError(
            f"{kinds.total()} of {records} rows in {named} cannot be used ({share:.1%}, allowed are "
            f"{most:.1%}): {summary(kinds)}. Mend the files, or allow a recipe more: "
            f"--set data.max_rejected_share={share + 0.01:.2f}"
        )
    if not made:
        raise no_votes(names, kinds)
    if weightless == made:
        raise TiebreakError(
            f"every row in {named} has the weight 0: nothing is learned from those; correct `weight`"
        )


def weightless(votes: pa.RecordBatch, role: Role) -> int:
    """The number of votes to learn from that have the weight 0."""
    return 0 if role == "test" else int(pc.sum(pc.equal(votes["weight"], 0)).as_py() or 0)


def kinds_of(rejects: Iterable[Reject]) -> Counter[str]:
    """The number of rejects of each kind."""
    return Counter(reject.error.kind for reject in rejects)


def summary(kinds: Counter[str]) -> str:
    """A summary such as `12 not UTF-8, 3 no label`, the most frequent kinds first; of many those alone."""
    shown = kinds.most_common(_MOST_KINDS)
    rest = kinds.total() - sum(count for _, count in shown)
    others = [f"{rest} of {len(kinds) - len(shown)} other kinds"] if rest else []
    return ", ".join([*(f"{count} {what}" for what, count in shown), *others])


def no_votes(names: Iterable[str], kinds: Counter[str]) -> TiebreakError:
    """The error for files without votes, with the kinds of their rejects."""
    return TiebreakError(f"no usable votes in {', '.join(names)}: {summary(kinds) or 'no rows'}")


def _read_file(
    path: Path, role: Role, pairs_per_prompt: int | None, mapping: ColumnMap, ids: Ids
) -> Iterator[Batch]:
    rows = containers.records(path, COLUMNS | mapping.reads())
    found = detected(path, rows, _is_labelled(role), mapping=mapping)
    if found is None:
        return
    record_format, options, rows = found
    options = replace(options, pairs_per_prompt=pairs_per_prompt)
    pending = _Pending()
    kinds: set[str] = set()
    for row, record in rows:
        if pending.full():
            yield pending.batch()
            pending = _Pending()
        pending.records += 1
        try:
            votes = [ids.unique(vote, path) for vote in votes_in(record, record_format, options)]
        except RowError as error:
            if isinstance(record, Unended) and error.kind not in kinds:  # whole records had no such fault
                error = RowError(TRUNCATED, f"the last record does not end: {error}")
            kinds.add(error.kind)
            pending.rejects.append(Reject(str(path), row, error))
        except OtherScale as error:
            raise TiebreakError(
                f"{path}, record {row}: {error}; say what all values mean, such as --values '1=a,2=a,3=b,4=b'"
            ) from None
        else:
            for n, vote in enumerate(votes):
                if n and pending.full():  # those of one record may be more than a batch
                    yield pending.batch()
                    pending = _Pending()
                pending.votes.append(vote)
                pending.chars += vote.chars
    yield pending.batch()


def detected(
    path: Path,
    rows: Iterator[Row],
    labelled: bool,
    enough: int = _SAMPLE,
    mapping: ColumnMap = NO_MAP,
) -> tuple[RecordFormat, ReadOptions, Iterator[Row]] | None:
    """The format that the first rows of a file have, its options, and all rows; None for a file without rows.

    enough: good rows to look at. Raises TiebreakError if the columns are of no known format.
    """
    sample: list[Row] = []
    good: list[Record] = []
    for row in islice(rows, _MAX_SAMPLED):
        sample.append(row)
        if isinstance(row[1], dict):
            good.append(row[1])
        if len(good) == enough:
            break
    if not sample:
        return None
    record_format, options = detect_format(good, labelled, mapping) or _unknown(path, sample, good, mapping)
    return record_format, options, chain(sample, rows)


def _unknown(path: Path, sample: list[Row], good: list[Record], mapping: ColumnMap) -> NoReturn:
    if not good:
        raise TiebreakError(f"none of the first {len(sample)} rows of {path} can be read: {sample[0][1]}")
    columns: set[str] = set().union(*good)
    require_columns({str(path): columns}, mapping, labelled=False)
    known = [f"  {', '.join(record_format.needs)}" for record_format in RECORD_FORMATS]
    if any(map(is_candidates, good)):
        known.append(RANK)
    unclear = fields_of(columns, mapping).names.unclear
    raise TiebreakError(
        f"{path} has the columns {', '.join(sorted(columns)):.500}. Needed is one of these sets, the first three with winner, "
        "or with winner_model_a, winner_model_b, winner_tie, or with p_a, p_b, p_tie:",
        *known,
        *unclear,
        "Columns of other names: --map 'prompt=COLUMN,response_a=COLUMN,response_b=COLUMN,winner=COLUMN', in Python "
        "columns={'prompt': 'COLUMN', ...}",
    )


def votes_in(record: Record | RowError, record_format: RecordFormat, options: ReadOptions) -> list[Vote]:
    """The votes of a record. Raises RowError for one that cannot be read or is no vote."""
    if isinstance(record, RowError):
        raise record
    return record_format.votes(record, options)


def votes_table(votes: Sequence[Vote]) -> pa.Table:
    """A table in votes.schema.SCHEMA."""
    return pa.Table.from_batches([record_batch(votes)])


def record_batch(votes: Sequence[Vote]) -> pa.RecordBatch:
    columns: dict[str, Sequence[Any]] = dict(zip(Vote._fields, zip(*votes, strict=True), strict=bool(votes)))
    columns |= {f"p_{label}": [vote.p and vote.p[n] for vote in votes] for n, label in enumerate(LABELS)}
    return pa.RecordBatch.from_arrays(
        [pa.array(columns.get(field.name, ()), field.type) for field in SCHEMA], schema=SCHEMA
    )
