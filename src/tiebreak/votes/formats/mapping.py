"""Mapping of a file's columns to the fields of a vote, and of its values to labels: what the user says, then common names.

A column may be a path into nested values: `outputs.0.text`. A winner's values get the label that the user gives them, else the
common meaning (labels.py), where numbers count only in the shapes that define them, beside answers called 1 and 2: alpaca_eval's
preference (1, 2, 1.5) with generator_1, HelpSteer's overall_preference (-3 to 3), PandaLM's annotators (0 a tie, 1 and 2).
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tiebreak.errors import TiebreakError, nearest
from tiebreak.recipe.values import MAPPED_FIELDS
from tiebreak.votes.formats.known_names import QUESTIONS, Names, known_names, side_of
from tiebreak.votes.formats.labels import (
    LABELS,
    A,
    B,
    Probabilities,
    Scale,
    Winners,
    below_zero_first,
    fold,
    from_one_to_two,
    none_first_second,
    value_key,
)
from tiebreak.votes.formats.prompts import PARTS
from tiebreak.votes.formats.rows import Record

_FIELDS = (*MAPPED_FIELDS, "responses")
"""The fields of votes, which recipes have, and of what is ranked."""
_LABEL_FIELDS = frozenset(("winner", "p_a", "p_b", "p_tie"))
_OTHER_LABELS = ("winner_model_a", "winner_model_b", "winner_tie", "p_a", "p_b", "p_tie")
_NUMBERED = {
    f"{stem}_{n}": label
    for n, label in ((1, A), (2, B))
    for stem in ("model", "response", "output", "answer")
}


@dataclass(frozen=True)
class ColumnMap:
    """The columns of some fields, and the labels of some values, as the user names them."""

    columns: Mapping[str, str] = field(default_factory=dict)
    values: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raises TiebreakError for a field or label that there is none of, or two labels of what is one value."""
        for name in self.columns:
            if name not in _FIELDS:
                raise TiebreakError(f"no field {name!r} of a vote; {nearest(name, _FIELDS)}")
        keys: dict[str, str] = {}
        for value, label in self.values.items():
            if label not in LABELS:
                raise TiebreakError(f"the value {value!r} cannot mean {label!r}; valid: {', '.join(LABELS)}")
            if keys.setdefault(value_key(value), label) != label:
                raise TiebreakError(
                    f"the value {value!r} is given two labels; case and spaces make no difference"
                )
        sides = [self.columns.get(name) for name in ("response_a", "response_b")]
        if None not in sides and sides[0] == sides[1]:
            raise TiebreakError(f"response_a and response_b are both mapped to {sides[0]}")

    def __bool__(self) -> bool:
        return bool(self.columns or self.values)

    def as_rows(self) -> list[list[tuple[str, str]]]:
        """The columns and the values as lists, sorted, as JSON has them."""
        return [sorted(self.columns.items()), sorted(self.values.items())]

    def needed(self, labelled: bool) -> list[str]:
        """The columns that a file must have."""
        return [column for name, column in self.columns.items() if labelled or name not in _LABEL_FIELDS]

    def reads(self) -> "ColumnNames":
        """The names of all columns to read, beside those that formats read by their own names."""
        return ColumnNames(fold(name) for column in self.columns.values() for name in (column, top(column)))


NO_MAP = ColumnMap()


def parse(columns: Sequence[str], values: Sequence[str]) -> ColumnMap:
    """The map that options give: `field=column,...` and `value=label,...`, where a value may hold `=`.

    Raises TiebreakError for a text without `=`, a field twice, and what `ColumnMap` refuses.
    """
    fields = [_split(part, "--map takes FIELD=COLUMN", "prompt=question", 0) for part in _parts(columns)]
    labels = [_split(part, "--values takes VALUE=LABEL", "A>B=a", -1) for part in _parts(values)]
    for option, pairs in (("--map", fields), ("--values", labels)):
        names = [name for name, _ in pairs]
        if twice := [name for name in names if names.count(name) > 1]:
            raise TiebreakError(f"{option} names {twice[0]!r} twice")
    return ColumnMap(dict(fields), dict(labels))


def _parts(texts: Sequence[str]) -> list[str]:
    """The pairs in some options. One with a single `=` is one pair, whose names may hold commas."""
    parts = [[text] if text.count("=") == 1 else text.split(",") for text in texts]
    return [part for some in parts for part in some if part.strip()]


def _split(part: str, takes: str, example: str, at: int) -> tuple[str, str]:
    """The texts before and after the first `=`, or the last if `at` is -1."""
    before, equals, after = part.partition("=") if at == 0 else part.rpartition("=")
    if not (equals and before.strip() and after.strip()):
        raise TiebreakError(f"{takes}, such as {example!r}, not {part!r}")
    return before.strip(), after.strip()


class ColumnNames(frozenset[str]):
    """Names of columns, of which `in` finds every way of writing: case, spaces, hyphens, underscores."""

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and (super().__contains__(name) or super().__contains__(fold(name)))

    def __or__(self, other: Any) -> "ColumnNames":
        return ColumnNames(frozenset.__or__(self, other))


@dataclass(frozen=True)
class Fields:
    """What the columns of one file are: `columns` by field, besides those of their own name; which hold votes; what they mean.

    names: what is known of them without the mapping. left_out: fields whose columns are not what their names say.
    """

    columns: Mapping[str, str]
    names: Names
    winners: Winners
    left_out: frozenset[str] = frozenset()

    def apply(self, record: Mapping[str, Any], labelled: bool) -> Record:
        """The record with its fields by their names and, if labels are wanted, `winner` as probabilities.

        NaN is nothing, as pandas writes it. Raises RowError for an unknown winner.
        """
        fields = {name: None if value != value else value for name, value in record.items()}
        votes = [fields.get(name) for name in self.names.annotators] if labelled else []
        if self.columns:
            fields |= {name: value_at(fields, column) for name, column in self.columns.items()}
        if self.left_out:
            fields |= dict.fromkeys(self.left_out)
        if not labelled:
            return fields
        votes.append(fields.get("winner"))
        labels = [self.winners.label(vote) for vote in votes if vote not in (None, "")]
        if labels:
            fields["winner"] = labels[0] if len(labels) == 1 else _mean(labels)
        if "winner" in self.columns:
            fields |= dict.fromkeys(set(_OTHER_LABELS) - self.columns.keys())
        return fields

    def certain(self) -> set[str]:
        """The fields that the file has by their own names, or mapped."""
        return {*self.names.own, *self.columns} - self.names.common.keys()

    def has(self) -> set[str]:
        """The fields that the file has by any name, `winner` among them if people's votes are in columns of their own."""
        winner = {"winner"} if self.names.annotators else set()
        return {*self.names.own, *self.columns, *winner}


def _mean(labels: Sequence[Probabilities]) -> Probabilities:
    a, b, tie = (sum(share) / len(labels) for share in zip(*labels, strict=True))
    return a, b, tie


def fields_of(columns: Collection[str], mapping: ColumnMap) -> Fields:
    """The fields of a file with these columns. Raises TiebreakError for answers that are mapped crosswise without `values`."""
    mapped = {name: column for name, column in mapping.columns.items() if _is_in(column, columns)}
    names = known_names(columns, mapped)
    renamed = {name: column for name, column in names.own.items() if name != column}
    found = {**renamed, **names.common, **mapped}
    replaced = frozenset[str]()
    if "prompt" in mapped and ("input" in mapped or fold(mapped["prompt"]) in ("instruction", *QUESTIONS)):
        found["instruction"] = found.pop("prompt")  # `input` is the rest of it
        replaced = frozenset({"prompt"})  # a column of that name is not the one that is mapped
    sides = [side_of(found.get(name, name)) for name in ("response_a", "response_b")]
    if sides in (["b", "a"], ["2", "1"]) and not mapping.values:
        raise TiebreakError(
            f"response_a is mapped to {found['response_a']} and response_b to {found['response_b']}: exchange them, or say "
            "with --values who wins"
        )
    return Fields(
        found,
        names,
        _winners(found, names, mapping, sides == ["1", "2"]),
        _left_out(found, mapping) | replaced,
    )


def _left_out(found: Mapping[str, str], mapping: ColumnMap) -> frozenset[str]:
    """The parts of a prompt that hold the prompt itself or what is mapped to another field, and of `context` and `input` what a
    mapped prompt leaves out.
    """
    prompt = found.get("prompt", found.get("instruction", ""))
    left_out = {name for name in PARTS if top(found.get(name, name)) == top(prompt)}
    left_out |= {name for name in PARTS if found.get(name, name) in mapping.columns.values()}
    if "prompt" in mapping.columns:
        left_out |= {"context"} if fold(prompt) in ("instruction", *QUESTIONS) else {"context", "input"}
    return frozenset(
        left_out - mapping.columns.keys() - ({"context"} if fold(prompt) == "context" else set())
    )


def _winners(found: Mapping[str, str], names: Names, mapping: ColumnMap, numbered: bool) -> Winners:
    answers = {
        fold(found[name]): label for name, label in (("response_a", A), ("response_b", B)) if name in found
    }
    given = {value_key(value): LABELS[label] for value, label in mapping.values.items()}
    scale = _scale(found, names) if numbered and not given else None
    return Winners(answers | (_NUMBERED if numbered else {}) | given, scale)


def _scale(found: Mapping[str, str], names: Names) -> Scale | None:
    """What numbers mean in a shape that defines them. `preference` alone may be alpaca_farm's, where 2 is for the first answer;
    alpaca_eval's names its generators.
    """
    if names.annotators:
        return none_first_second
    match fold(found.get("winner", "")), fold(found.get("model_a", "")):
        case "preference", "generator_1":
            return from_one_to_two
        case "overall_preference", _:
            return below_zero_first
    return None


def require_columns(files: Mapping[str, Collection[str]], mapping: ColumnMap, labelled: bool) -> None:
    """Raise TiebreakError for a mapped column that none of the files, given with their columns, has."""
    have = sorted(set().union(*files.values()))
    for column in mapping.needed(labelled):
        if not _is_in(column, have):
            where = ", ".join(files)
            raise TiebreakError(f"no column {column!r} in {where:.200}; {nearest(column, have)}")


def value_at(record: Mapping[str, Any], column: str) -> Any:
    """The value of a column, or at a path of keys and numbers that begins with one; None where there is nothing."""
    if column in record or "." not in column:
        return record.get(column)
    value: Any = record
    for key in column.split("."):
        if isinstance(value, Mapping):
            value = value.get(key)
        elif isinstance(value, list) and key.isdecimal() and len(key) < 10 and int(key) < len(value):
            value = value[int(key)]
        else:
            return None
    return value


def _is_in(column: str, columns: Collection[str]) -> bool:
    return column in columns or ("." in column and top(column) in columns)


def top(column: str) -> str:
    """The column that a path into nested values begins with."""
    return column.partition(".")[0]
