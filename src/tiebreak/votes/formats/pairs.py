"""Pairs of answers to judge, each beside the record that it comes from, in the order of the file.

A record that is no pair keeps its place and says why. Of a preference (`chosen`, `rejected`) the sides are shown at
random, as in training, and `swapped` tells that `rejected` is answer A.
"""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from tiebreak.errors import TiebreakError
from tiebreak.votes.formats import containers
from tiebreak.votes.formats.candidates import RANK
from tiebreak.votes.formats.dialog import RowError
from tiebreak.votes.formats.mapping import NO_MAP, ColumnMap, require_columns
from tiebreak.votes.formats.plain_texts import plain_reader
from tiebreak.votes.formats.readers import Ids, detected, not_whole, votes_in
from tiebreak.votes.formats.record_formats import COMPLETIONS
from tiebreak.votes.formats.rows import TRUNCATED, Record, Row, columns_of
from tiebreak.votes.formats.vote import Vote, content_id, id_in, random_side


class Pair(NamedTuple):
    """A record with all its columns, and the unlabelled pair in it, or the reason why there is none.

    preference: its answers are `chosen` and `rejected`. own_id: of the record, where it has one.
    """

    record: Record
    vote: Vote | None
    preference: bool
    swapped: bool = False
    error: str | None = None
    own_id: str | None = None

    @property
    def id(self) -> str | None:
        """The record's own id, or one made of the texts; None where there are neither."""
        return self.own_id or (self.vote and content_id(self.vote))

    @property
    def chars(self) -> int:
        """The length of its texts."""
        return self.vote.chars if self.vote else 0


class PairFile:
    """The pairs of one file, read once or again. `of_preferences`: its answers are a chosen and a rejected one.

    encoded: as in ReadOptions, seen from the first rows by default. Raises TiebreakError for a file without rows, of no known
    format, or without a mapped column.
    """

    def __init__(
        self,
        path: Path,
        rows: Iterator[Row],
        enough: int,
        mapping: ColumnMap = NO_MAP,
        encoded: bool | None = None,
    ) -> None:
        found = detected(path, rows, labelled=False, enough=enough, mapping=mapping)
        if found is None:
            raise TiebreakError(f"no rows in {path}; a pair needs prompt, response_a and response_b")
        self.path = path
        self._format, options, self._rows = found
        encoded = options.encoded if encoded is None else encoded
        self._options = replace(options, random_sides=False, encoded=encoded)
        require_columns({str(path): options.fields.names.own}, mapping, labelled=False)
        if self._format is COMPLETIONS:
            raise TiebreakError(
                f"{path} has several answers in a row, and a row here is one pair: two columns with the answers, "
                f"such as response_a and response_b, or chosen and rejected. {RANK}"
            )
        self.of_preferences = self._format.is_preference
        self._plain_vote = plain_reader(self._format, self._options)

    def __iter__(self) -> Iterator[Pair]:
        return map(self._pair, self._records())

    def unread(self) -> Iterator[Pair]:
        """The records in their order, without the pairs in them."""
        return (Pair(columns_of(record), None, self.of_preferences) for record in self._records())

    def _records(self) -> Iterator[Record | RowError]:
        for row, record in self._rows:
            if isinstance(record, RowError) and record.kind == TRUNCATED:
                raise TiebreakError(f"{self.path} {record}, at record {row}. Fetch or mend the file")
            yield record

    def _pair(self, record: Record | RowError) -> Pair:
        own = columns_of(record)
        if plain := self._plain_vote(own):
            return Pair(own, plain, self.of_preferences, own_id=plain.id)
        try:
            (vote,) = votes_in(record, self._format, self._options)
        except RowError as error:
            return Pair(own, None, self.of_preferences, error=str(error), own_id=self._own_id(own))
        shown = random_side(vote) if self.of_preferences else vote
        return Pair(own, shown, self.of_preferences, swapped=shown is not vote, own_id=vote.id)

    def _own_id(self, record: Record) -> str | None:
        """The id of a record that is no pair, None where it cannot be read either."""
        with suppress(RowError):
            return id_in(self._options.fields.apply(record, labelled=False), "id")
        return None


def read_file(path: Path, mapping: ColumnMap = NO_MAP) -> PairFile:
    """The pairs of a file of any format that `readers` knows.

    Raises TiebreakError for a file that is missing, empty, of no known format, or breaks off.
    """
    return PairFile(path, containers.records(path), enough=50, mapping=mapping)


def read_whole(path: Path, mapping: ColumnMap = NO_MAP) -> list[tuple[Pair, Vote]]:
    """The pairs of a file, each with its vote under an id that no other has.

    Raises TiebreakError as `read_file` does, and if any row cannot be read or repeats an id.
    """
    ids = Ids()
    found: list[tuple[Pair, Vote]] = []
    errors: list[tuple[int, str]] = []
    for row, pair in enumerate(read_file(path, mapping), 1):
        if pair.vote is None:
            errors.append((row, str(pair.error)))
            continue
        try:
            found.append((pair, ids.unique(pair.vote, path)))
        except RowError as error:
            errors.append((row, str(error)))
    if errors:
        raise not_whole(path, len(errors), *errors[0])
    return found
