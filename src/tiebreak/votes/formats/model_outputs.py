"""Outputs of models to compare: a prompt and one answer a record, as alpaca_eval writes them, or pairs with their models' names.

A record of outputs has `instruction`, `prompt` or a question, an answer in one of OUTPUTS, and the model in one of MODELS; without
it the file's name is the model's, or its folder's where several files are called the same. Answers of several models are to the same prompt where its texts are equal.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, combinations, islice
from pathlib import Path
from typing import Any, NamedTuple

from tiebreak.errors import TiebreakError, nearest
from tiebreak.votes.formats import containers
from tiebreak.votes.formats.candidates import read_record
from tiebreak.votes.formats.dialog import RowError, Turns
from tiebreak.votes.formats.labels import fold
from tiebreak.votes.formats.mapping import NO_MAP, ColumnMap, fields_of, require_columns, value_at
from tiebreak.votes.formats.pairs import PairFile
from tiebreak.votes.formats.prompts import PARTS
from tiebreak.votes.formats.rows import TRUNCATED, Record, Row
from tiebreak.votes.formats.vote import Vote, digest, name_of

OUTPUTS = ("output", "response", "answer", "completion")
MODELS = ("generator", "model", "model_name", "model_id")
OF_PROMPTS = ("language", "length")
"""What comparisons are grouped by without a column."""
_SAMPLE = 50
Key = tuple[str, str, str]
"""A prompt's digest and two models."""


class Comparison(NamedTuple):
    """Two models' answers to a prompt, as an unlabelled vote, and what the records say in the column to group by and in `language`."""

    vote: Vote
    by: str | None
    error: str | None = None
    language: str | None = None

    @property
    def key(self) -> Key:
        """Its prompt and its models, sorted."""
        first, second = sorted((self.vote.model_a or "", self.vote.model_b or ""))
        return prompt_key(self.vote.prompt), first, second

    @property
    def chars(self) -> int:
        """The length of its texts."""
        return sum(len(turn or "") for turns in self.vote[1:4] for turn in turns)


@dataclass
class Outputs:
    """What models said. models: in the order of their files. answers: by prompt (its digest), then model."""

    models: list[str] = field(default_factory=list)
    prompts: dict[str, Turns] = field(default_factory=dict)
    answers: dict[str, dict[str, Turns]] = field(default_factory=dict)
    by: dict[str, str] = field(default_factory=dict)
    language: dict[str, str] = field(default_factory=dict)
    given: list[Comparison] = field(default_factory=list)
    """Pairs that the files hold as such, each once."""
    seen: set[tuple[str, frozenset[tuple[str, str]]]] = field(default_factory=set)
    """The texts of those."""
    problems: list[str] = field(default_factory=list)
    """Records that could not be read, and why."""

    def missing(self) -> Counter[str]:
        """The number of prompts that each model has no answer to, and others have."""
        return Counter(
            model for answers in self.answers.values() for model in self.models if model not in answers
        )


def prompt_key(prompt: Turns) -> str:
    """What tells prompts and answers apart: their texts, without space at the ends."""
    return digest(repr(tuple((turn or "").strip() for turn in prompt)))


def read_outputs(
    paths: Sequence[Path], mapping: ColumnMap = NO_MAP, by: str | None = None, beside_votes: bool = False
) -> Outputs:
    """The outputs in files. by: a column whose value is kept for each prompt. beside_votes: mapped columns may be those of votes.

    Raises TiebreakError for files that cannot be read, of another format, without two models, and for a model with two
    different answers to a prompt.
    """
    found = Outputs()
    known: set[str] = set()
    files = containers.expand(paths)
    stems = Counter(map(_stem, files))
    for path in files:
        rows = containers.records(path)
        sample = list(islice(rows, _SAMPLE))
        if not sample:
            raise TiebreakError(f"no rows in {path}; needed are instruction, output and generator")
        columns: set[str] = set().union(*(record for _, record in sample if isinstance(record, dict)))
        known |= columns
        fields = fields_of(columns, mapping)
        if {"response_a", "response_b"} <= fields.has():
            _read_pairs(path, chain(sample, rows), mapping, by, found)
        else:
            _require_mapped(str(path), columns, mapping, beside_votes)
            name = _stem(path) if stems[_stem(path)] == 1 else path.parent.name
            _read_file(path, chain(sample, rows), columns, mapping, by, found, name)
    if by is not None:
        _require_column(by, ", ".join(map(str, paths)), known)
    if not found.prompts:
        why = f": {found.problems[0]}" if found.problems else ""
        raise TiebreakError(f"no outputs can be read in {', '.join(map(str, paths)):.200}{why}")
    if len(found.models) < 2:
        raise TiebreakError(
            f"all outputs are of {found.models[0]}; a comparison needs those of two models or more: name their files, or the "
            f"models in a column {' or '.join(MODELS)}"
        )
    return found


def read_given(
    rows: Iterable[Mapping[str, Any]],
    mapping: ColumnMap = NO_MAP,
    by: str | None = None,
    beside_votes: bool = False,
) -> Outputs:
    """The outputs in dicts, as `read_outputs` has those in files. Raises TiebreakError likewise."""
    found = Outputs()
    records: list[Row] = []
    for number, row in enumerate(rows, 1):
        if not isinstance(row, Mapping):
            raise TiebreakError(
                f"output {number} is {row!r:.40}; one is a dict with instruction, output and generator"
            )
        records.append((number, dict(row)))
    if not records:
        raise TiebreakError("no outputs; needed are instruction, output and generator")
    columns: set[str] = set().union(*(record for _, record in records if isinstance(record, dict)))
    where = Path("what was given")
    _require_mapped(str(where), columns, mapping, beside_votes)
    if by is not None:
        _require_column(by, where.name, columns)
    if {"response_a", "response_b"} <= fields_of(columns, mapping).has():
        _read_pairs(where, iter(records), mapping, by, found)
    else:
        _read_file(where, iter(records), columns, mapping, by, found, where.name)
    if len(found.models) < 2:
        raise TiebreakError(f"outputs of two models or more are compared, not of {found.models or 'none'}")
    return found


def comparisons(
    outputs: Outputs,
    baseline: str | None = None,
    budget: int | None = None,
    wanted: frozenset[Key] = frozenset(),
) -> list[Comparison]:
    """The comparisons to judge: of all pairs of models, of each with the baseline, or of a budget of them.

    A budget is spread evenly over pairs of models and, as far as that goes, over prompts. wanted: those, with their
    models sorted, that come first, as where people have voted. Raises TiebreakError for an unknown baseline.
    """
    if baseline is not None and baseline not in outputs.models:
        raise TiebreakError(
            f"no outputs of the baseline {baseline!r}; there are those of {', '.join(outputs.models)}"
        )
    found = _candidates(outputs, baseline)
    places: Sequence[int] = range(len(found))
    if budget is not None and budget < len(found):
        places = sorted(_in_turn(found, wanted)[:budget])
    return [_comparison(outputs, found[n]) for n in places]


def more_comparisons(
    outputs: Outputs,
    baseline: str | None,
    budget: int,
    wanted: frozenset[Key],
    more: Mapping[tuple[str, str], int],
) -> list[Comparison]:
    """The comparisons to judge after those of an even budget: `more` of each pair of models, sorted, as far as there are any."""
    found, left = _candidates(outputs, baseline), Counter(more)
    places = []
    for n in _in_turn(found, wanted)[budget:]:
        if left[pair := _key(found[n])[1:]] > 0:
            left[pair] -= 1
            places.append(n)
    return [_comparison(outputs, found[n]) for n in sorted(places)]


def pair_sizes(outputs: Outputs, baseline: str | None) -> Counter[tuple[str, str]]:
    """The number of comparisons that there are of each pair of models, sorted."""
    return Counter(_key(one)[1:] for one in _candidates(outputs, baseline))


def _candidates(outputs: Outputs, baseline: str | None) -> list[Key | Comparison]:
    """All comparisons that can be made: pairs of answers by prompt and models, and those that were given as pairs."""
    place = {model: n for n, model in enumerate(outputs.models)}
    made: list[Key | Comparison] = [
        (key, a, b)
        for key, answers in outputs.answers.items()
        for a, b in combinations(sorted(answers, key=place.__getitem__), 2)
        if baseline is None or baseline in (a, b)
    ]
    return made + [
        one for one in outputs.given if baseline is None or baseline in (one.vote.model_a, one.vote.model_b)
    ]


def _in_turn(found: Sequence[Key | Comparison], wanted: frozenset[Key]) -> list[int]:
    """The places of comparisons in the order in which a budget takes them: each pair of models goes through the prompts in one random
    order, from a place of its own.
    """
    keys = [_key(one) for one in found]
    prompts = sorted({key for key, *_ in keys}, key=digest)
    place = {key: n for n, key in enumerate(prompts)}
    pairs = {pair: n for n, pair in enumerate(dict.fromkeys((a, b) for _, a, b in keys))}

    def turn(n: int) -> tuple[bool, int, int]:
        key, a, b = keys[n]
        pair = pairs[a, b]
        start = pair * len(prompts) // len(pairs)
        return keys[n] not in wanted, (place[key] - start) % len(prompts), pair

    return sorted(range(len(keys)), key=turn)


def _key(one: Key | Comparison) -> Key:
    """The prompt and the models, sorted."""
    if isinstance(one, Comparison):
        return one.key
    key, a, b = one
    return key, min(a, b), max(a, b)


def _comparison(outputs: Outputs, found: Key | Comparison) -> Comparison:
    if isinstance(found, Comparison):
        return found
    key, a, b = found
    answers = outputs.answers[key]
    vote = Vote(None, outputs.prompts[key], answers[a], answers[b], a, b, None)
    return Comparison(vote, outputs.by.get(key), language=outputs.language.get(key))


def _stem(path: Path) -> str:
    return path.name.partition(".")[0]


def _read_file(
    path: Path,
    rows: Iterator[Row],
    columns: set[str],
    mapping: ColumnMap,
    by: str | None,
    found: Outputs,
    name: str,
) -> None:
    """Add the outputs of a file. name: of the model whose records do not name it."""
    output = mapping.columns.get("responses") or _one(columns, OUTPUTS)
    model_column = mapping.columns.get("model_a") or _one(columns, MODELS)
    if output is None:
        raise TiebreakError(
            f"{path} has the columns {', '.join(sorted(columns)):.500}. Needed are a prompt (instruction, prompt or question) and "
            f"one of {', '.join(OUTPUTS)}; or pairs: prompt, response_a, response_b, model_a, model_b (columns of other names: "
            "--map 'prompt=COLUMN,responses=COLUMN,model_a=COLUMN')"
        )
    fields = fields_of(columns, mapping)
    for number, record in rows:
        if isinstance(record, RowError):
            if record.kind == TRUNCATED:
                raise TiebreakError(f"{path} {record}, at record {number}. Fetch or mend the file")
            found.problems.append(f"{path}, record {number}: {record}")
            continue
        named = dict(fields.apply(record, labelled=False))
        prompt = {name: named[name] for name in ("prompt", "instruction", *PARTS) if name in named}
        read = read_record(prompt | {"responses": [value_at(record, output)]})
        if read.error is not None:
            found.problems.append(f"{path}, record {number}: {read.error.replace('responses[0]', output)}")
            continue
        model = name_of(value_at(record, model_column)) if model_column else None
        _add(found, path, number, read.prompt, model or name, read.responses[0])
        _note(found, read.prompt, record, by)


def _add(found: Outputs, path: Path, number: int, prompt: Turns, model: str, answer: Turns) -> None:
    key = prompt_key(prompt)
    found.prompts.setdefault(key, prompt)
    if model not in found.models:
        found.models.append(model)
    before = found.answers.setdefault(key, {}).setdefault(model, answer)
    if before != answer:
        raise TiebreakError(
            f"{path}, record {number}: {model} has another answer to the same prompt before it ({(prompt[-1] or '')[:60]!r}); "
            "keep one, or give the models different names"
        )


def _require_column(by: str, where: str, columns: Collection[str]) -> None:
    """Raise TiebreakError if there is no such column to group by, and its name is no path into one."""
    if by not in columns and by.partition(".")[0] not in columns:
        raise TiebreakError(
            f"no column {by!r} in {where:.200}; {nearest(by, sorted({*columns, *OF_PROMPTS}))}"
        )


def _require_mapped(where: str, columns: Collection[str], mapping: ColumnMap, beside_votes: bool) -> None:
    """Raise TiebreakError for a mapped column that is not there; beside votes, which may have the others, for that of the outputs."""
    own = {name: column for name, column in mapping.columns.items() if name == "responses"}
    require_columns({where: columns}, ColumnMap(own) if beside_votes else mapping, labelled=False)


def _note(found: Outputs, prompt: Turns, record: Record, by: str | None) -> None:
    """Keep what a record says of its prompt: in the column to group by, and its language."""
    for kept, column in ((found.by, by), (found.language, "language")):
        value = value_at(record, column) if column is not None else None
        if value not in (None, ""):
            kept.setdefault(prompt_key(prompt), str(value))


def _read_pairs(path: Path, rows: Iterator[Row], mapping: ColumnMap, by: str | None, found: Outputs) -> None:
    """Add the pairs of a file."""
    for number, pair in enumerate(PairFile(path, rows, _SAMPLE, mapping), 1):
        vote = pair.vote
        if vote is None or not (vote.model_a and vote.model_b) or vote.model_a == vote.model_b:
            problem = pair.error or "no names of two different models (model_a, model_b)"
            found.problems.append(f"{path}, record {number}: {problem}")
            continue
        key = prompt_key(vote.prompt)
        sides = {(vote.model_a, prompt_key(vote.response_a)), (vote.model_b, prompt_key(vote.response_b))}
        if (pair_key := (key, frozenset(sides))) in found.seen:
            continue
        found.seen.add(pair_key)
        found.prompts.setdefault(key, vote.prompt)
        found.models += [name for name in (vote.model_a, vote.model_b) if name not in found.models]
        _note(found, vote.prompt, pair.record, by)
        found.given.append(Comparison(vote, found.by.get(key), language=found.language.get(key)))


def _one(columns: set[str], names: Sequence[str]) -> str | None:
    """The column that has one of the names, the first of them that is there."""
    folded = {fold(column): column for column in columns}
    return next((folded[name] for name in names if name in folded), None)
