"""Words for what pydantic finds wrong with a recipe or a package: the key, what it should be, what it is."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from tiebreak.errors import nearest

_SHOULD_BE = {
    "int": "a whole number",
    "float": "a number",
    "finite_number": "a finite number",
    "bool": "true or false",
    "string": "a text",
    "string_pattern_mismatch": "letters, digits and . _ - that begin with a letter or digit",
    "string_too_short": "a text that is not empty",
    "tuple": "a list, such as [a, b]",
    "dict": "names with a value each",
    "model": "a section with keys of its own",
    "invalid_key": "named by a text",
    "too_short": "of {min_length} entries or more",
    "too_long": "of {max_length} entries at the most",
    "greater_than": "above {gt:.20g}",
    "greater_than_equal": "{ge:.20g} or more",
    "less_than": "below {lt:.20g}",
    "less_than_equal": "{le:.20g} or less",
    "literal_error": "{expected}",
}
"""What a value should be, by the type of the error; pydantic's types end in _type or _parsing and the like."""
_ENDINGS = ("_type", "_parsing", "_from_float", "_parsing_size")


def problems(error: ValidationError, tree: Any, model: type[BaseModel]) -> Iterator[str]:
    """One line for each key of `tree` that has something wrong; `model` is what it was to become."""
    should_be: dict[str, list[str]] = {}
    values: dict[str, Any] = {}
    for item in error.errors():
        loc, kind = _without_branches(item["loc"], tree), item["type"]
        where = ".".join(map(str, loc)) or model.__name__.lower()
        if kind == "extra_forbidden":
            yield f"{where}: unknown key; {nearest(str(loc[-1]), _keys_at(model, loc[:-1]))}"
        elif kind == "missing":
            yield f"{where}: it is missing, and has no default"
        elif kind == "json_invalid":
            yield f"it is not JSON: {item['ctx']['error']}"
        elif kind == "value_error":  # messages of our own validators are complete
            yield f"{where}: {item['ctx']['error']}"
        else:
            should_be.setdefault(where, []).append(_expected(kind, item))
            values[where] = item["input"]
    for where, choices in should_be.items():
        yield f"{where}: should be {', or '.join(dict.fromkeys(choices))}, and is {values[where]!r:.200}"


def _expected(kind: str, item: Mapping[str, Any]) -> str:
    """What the value should be, in words; pydantic's own for an error that is not known here."""
    for ending in _ENDINGS:
        kind = kind.removesuffix(ending)
    if kind not in _SHOULD_BE:
        return f"another ({item['msg']})"
    return _SHOULD_BE[kind].format_map(item.get("ctx", {}))


def _without_branches(loc: Sequence[int | str], tree: Any) -> tuple[int | str, ...]:
    """The location without what pydantic adds to tell the branches of a union: only keys and places in the tree."""
    found: list[int | str] = []
    for n, part in enumerate(loc):
        inside = (
            tree.keys()
            if isinstance(tree, Mapping)
            else range(len(tree))
            if isinstance(tree, (list, tuple))
            else ()
        )
        if part in inside:
            found.append(part)
            tree = tree[part]
        elif isinstance(tree, Mapping) and n == len(loc) - 1 and part != "[key]":  # a key that is missing
            found.append(part)
    return tuple(found)


def _keys_at(model: type[BaseModel], location: Sequence[int | str]) -> list[str]:
    """The valid keys of the section at `location`."""
    section: Any = model
    for part in location:
        fields = getattr(section, "model_fields", None)  # None: a mapping of names to sections
        section = fields[str(part)].annotation if fields else get_args(section)[1]
    return list(section.model_fields)
