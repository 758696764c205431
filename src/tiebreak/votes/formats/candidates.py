"""Prompts with several responses to rank, each beside the record that it comes from, in the order of the file.

A record has `prompt` (a string, turns or messages; or `instruction` or a question, with what belongs to it as in files of
pairs) and a list of responses in one of COLUMNS. A response is a string, a list of turns or messages, or a dict with
`response`, `content` or `text`. In tables of text both may be JSON.
"""

from collections.abc import Iterator, Mapping
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple

from tiebreak.errors import TiebreakError
from tiebreak.limits import RAISE, raised
from tiebreak.votes.formats.dialog import RowError, Turns, decode
from tiebreak.votes.formats.mapping import NO_MAP, ColumnMap, Fields, fields_of, require_columns
from tiebreak.votes.formats.prompts import PARTS
from tiebreak.votes.formats.record_formats import MOST_RESPONSES, PAIR, ReadOptions
from tiebreak.votes.formats.rows import TRUNCATED, Record, Row, columns_of

COLUMNS = ("responses", "completions", "outputs", "candidates")
"""The columns that may hold the responses; the first that is there does."""
RANK = "To rank several responses to a prompt: tiebreak rank MODEL FILE -o OUT"
_TEXTS = ("response", "content", "text")
_PROMPTS = ("prompt", "instruction")


class Candidates(NamedTuple):
    """A record with all its columns, its prompt and responses as turns, or the reason why it has none."""

    record: Record
    prompt: Turns
    responses: list[Turns]
    error: str | None = None

    @property
    def chars(self) -> int:
        """The length of its texts."""
        return sum(len(turn or "") for turns in (self.prompt, *self.responses) for turn in turns)


def is_candidates(record: Mapping[str, Any], mapping: ColumnMap = NO_MAP) -> bool:
    """True if a record has the columns of a prompt with several responses."""
    fields = fields_of(record.keys(), mapping).has()
    return not fields.isdisjoint(_PROMPTS) and not fields.isdisjoint(COLUMNS)


class CandidatesFile:
    """The candidates of one file, read once or again."""

    def __init__(self, path: Path, rows: Iterator[Row], enough: int, mapping: ColumnMap = NO_MAP) -> None:
        sample = list(islice(rows, enough))
        if not sample:
            raise TiebreakError(f"no rows in {path}; needed are prompt and {' or '.join(COLUMNS)}")
        good = [record for _, record in sample if isinstance(record, dict)]
        columns: set[str] = set().union(*good)
        if good:
            require_columns({str(path): columns}, mapping, labelled=False)
        if not any(is_candidates(record, mapping) for record in good):
            found = (
                f"the columns {', '.join(good[0])}" if good else f"no row that can be read: {sample[0][1]}"
            )
            raise TiebreakError(
                f"{path} has {found:.500}. Needed are prompt and a list of responses: "
                f"{', '.join(COLUMNS[:-1])} or {COLUMNS[-1]} (columns of other names: --map 'prompt=COLUMN,responses=COLUMN')"
            )
        self.path = path
        self._fields = fields_of(columns, mapping)
        self._rows = chain(sample, rows)

    def __iter__(self) -> Iterator[Candidates]:
        for row, record in self._rows:
            if isinstance(record, RowError):
                if record.kind == TRUNCATED:
                    raise TiebreakError(f"{self.path} {record}, at record {row}. Fetch or mend the file")
                yield Candidates(columns_of(record), [], [], str(record))
            else:
                yield read_record(record, self._fields)


def read_record(record: Record, fields: Fields | None = None) -> Candidates:
    """The candidates of a record, with the fields of its file. Those that cannot be read have the reason in `error`."""
    try:
        named = (fields or fields_of(record.keys(), NO_MAP)).apply(record, labelled=False)
        return Candidates(record, *_prompt_and_responses(named))
    except RowError as error:
        return Candidates(record, [], [], str(error))


def _prompt_and_responses(record: Record) -> tuple[Turns, list[Turns]]:
    """Raises RowError."""
    column = next((name for name in COLUMNS if record.get(name) is not None), None)
    if column is None:
        raise RowError("no responses", f"none of {', '.join(COLUMNS)}")
    responses = record[column]
    if isinstance(responses, str):
        responses = decode(responses, column)
    if not isinstance(responses, list):
        raise RowError(f"{column} is no list of responses")
    if not 1 <= len(responses) <= raised(MOST_RESPONSES):
        raise RowError(
            f"not 1 to {raised(MOST_RESPONSES)} responses",
            str(len(responses)) + f"; {RAISE}" * bool(responses),
        )
    prompt = {name: record[name] for name in (*_PROMPTS, *PARTS) if name in record}
    prompt["prompt"] = _decoded(record.get("prompt"))
    sides = [_side(prompt, response, f"{column}[{n}]") for n, response in enumerate(responses)]
    if any(questions != sides[0][0] for questions, _ in sides):
        raise RowError("the responses answer different questions")
    return sides[0][0], [answers for _, answers in sides]


def _decoded(prompt: Any) -> Any:
    """A prompt that is a JSON list in a text, as that list."""
    if isinstance(prompt, str) and prompt.lstrip().startswith("["):
        try:
            found = decode(prompt, "prompt")
        except RowError:
            return prompt
        return found if isinstance(found, list) and found else prompt
    return prompt


def _side(prompt: Record, response: Any, what: str) -> tuple[Turns, Turns]:
    """The turns of the prompt and of one response. Raises RowError that names the response."""
    if isinstance(response, dict):
        if response.keys().isdisjoint(_TEXTS):
            raise RowError(f"{what} has none of {', '.join(_TEXTS)}", ", ".join(map(str, response)))
        response = next((response[name] for name in _TEXTS if response.get(name) is not None), None)
    try:
        (vote,) = PAIR.votes(
            prompt | {"response_a": response, "response_b": response}, ReadOptions(labelled=False)
        )
    except RowError as error:
        raise RowError(
            error.kind.replace("response_a", what), error.detail.replace("response_a", what)
        ) from None
    return vote.prompt, vote.response_a
