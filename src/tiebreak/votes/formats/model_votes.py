"""Votes between models, whose texts may be missing: as files, tables or dicts have them, in votes.schema.SCHEMA."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow as pa

from tiebreak.errors import TiebreakError
from tiebreak.votes.formats import containers
from tiebreak.votes.formats.dialog import RowError
from tiebreak.votes.formats.labels import OtherScale
from tiebreak.votes.formats.mapping import NO_MAP, ColumnMap, fields_of
from tiebreak.votes.formats.readers import detected, record_batch, votes_in
from tiebreak.votes.formats.rows import Row
from tiebreak.votes.formats.vote import Vote
from tiebreak.votes.schema import SCHEMA


def read_model_votes(
    votes: Path | str | Sequence[Path] | Iterable[Mapping[str, Any]] | Any, mapping: ColumnMap = NO_MAP
) -> tuple[pa.Table, list[str]]:
    """The votes of files, a table of any library or dicts, and the rows that could not be read, with the reasons.

    Each has model_a and model_b, and winner or probabilities. Without texts every vote counts as one on a prompt of its own.
    Raises TiebreakError for files that cannot be read, for votes of no known format, and if not one can be read.
    """
    found: list[Vote] = []
    problems: list[str] = []
    for name, rows in _sources(votes):
        given = list(rows)
        read = detected(name, iter(_with_texts(given, mapping)), labelled=True, mapping=mapping)
        if read is None:
            continue
        record_format, options, records = read
        for number, record in records:
            try:
                found += votes_in(record, record_format, options)
            except RowError as error:
                problems.append(f"{name}, row {number}: {error}")
            except OtherScale as error:
                raise TiebreakError(
                    f"{name}, row {number}: {error}; say what all values mean, such as --values '1=a,2=b'"
                ) from None
    if not found:
        why = f"{len(problems)} cannot be read, the first is {problems[0]}" if problems else "there are none"
        raise TiebreakError(f"no votes; needed are model_a, model_b and winner, and {why}")
    return pa.Table.from_batches([record_batch(found)], schema=SCHEMA), problems


def _sources(votes: Any) -> Iterator[tuple[Path, Iterable[Row]]]:
    if isinstance(votes, str | Path):
        votes = [Path(votes)]
    elif hasattr(votes, "__arrow_c_stream__"):
        votes = pa.table(votes).to_pylist()
    elif isinstance(votes, Mapping) or not isinstance(votes, Iterable):
        raise TiebreakError(f"votes are a file, a table or a list of dicts, not {votes!r:.40}")
    votes = list(votes)
    if votes and all(isinstance(one, str | Path) for one in votes):
        for path in containers.expand(map(Path, votes)):
            yield path, containers.records(path)
    else:
        for number, row in enumerate(votes, 1):
            if not isinstance(row, Mapping):
                raise TiebreakError(
                    f"vote {number} is {row!r:.40}; a vote is a dict with model_a, model_b and winner"
                )
        yield Path("what was given"), enumerate(map(dict, votes), 1)


def _with_texts(rows: list[Row], mapping: ColumnMap) -> Iterator[Row]:
    """The rows; those of models' names without texts each with some texts of its own."""
    columns = set(chain.from_iterable(record for _, record in rows if isinstance(record, dict)))
    has = fields_of(columns, mapping).has()
    if not {"model_a", "model_b"} <= has or has & {"response_a", "response_b", "conversation_a"}:
        yield from rows
        return
    for number, record in rows:
        if isinstance(record, dict):
            prompt = {} if has & {"prompt", "instruction"} else {"prompt": f"vote {number}"}
            record = {**record, **prompt, "response_a": "a", "response_b": "b"}
        yield number, record
