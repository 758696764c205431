"""Common names of columns: which is the prompt, which are the answers and their models, and which says who won.

Case, spaces, hyphens and underscores make no difference. What could be read in two ways is not guessed: two columns that
might both be the prompt, or several sets of answers. It takes a mapping (mapping.py), and `Names.unclear` says which.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

from tiebreak.votes.formats.labels import fold, is_labelled

QUESTIONS = ("question", "query")
_OTHER_PROMPTS = ("context", "input")
"""Parts of a prompt, which are the prompt where there is none besides."""
SYSTEM = "system_prompt"
WINNERS = ("label", "preference", "overall_preference")
ANNOTATORS = tuple(f"annotator{n}" for n in range(1, 10))
_ANSWERS, _MODELS = ("response", "output", "answer", "completion"), ("model", "generator")
_FIELDS = frozenset(
    "prompt instruction input system context history response_a response_b model_a model_b winner conversation_a conversation_b "
    "chosen rejected".split()
)
"""Fields whose columns may be written in any case; others, such as id, have exactly their own name."""

KNOWN = frozenset(
    (
        *(f"{stem}{gap}{side}" for stem, gap, side in product(_ANSWERS + _MODELS, ("", "_"), "ab12")),
        *_FIELDS,
        *QUESTIONS,
        SYSTEM,
        *WINNERS,
        *ANNOTATORS,
    )
)
"""All names that are known here, folded."""


@dataclass(frozen=True)
class Names:
    """The columns of a file by the fields that they are known to be.

    own: fields that have a column of their own name. common: those that have one of another common name. annotators: the
    columns with the votes of several people. unclear: what a mapping has to say.
    """

    own: Mapping[str, str]
    common: Mapping[str, str]
    annotators: tuple[str, ...]
    unclear: tuple[str, ...]


def known_names(columns: Collection[str], mapped: Collection[str] = ()) -> Names:
    """The known names among the columns of a file. Fields in `mapped` are given, and so not looked for, nor is the other
    side of one.
    """
    own = {name: name for name in columns}
    names = {fold(name): name for name in columns}
    own |= {field: name for field, name in names.items() if field in _FIELDS and field not in own}
    has, unclear = {*own, *mapped}, []
    common: dict[str, str] = {}
    annotators: tuple[str, ...] = ()
    if not has & {"prompt", "instruction"}:
        found = [name for name in QUESTIONS if name in names] or [
            name for name in _OTHER_PROMPTS if name in names
        ]
        if len(found) == 1:
            common["instruction" if found[0] in QUESTIONS else "prompt"] = names[found[0]]
        unclear += _choice("prompt", [names[name] for name in found])
    if SYSTEM in names and "system" not in has:
        common["system"] = names[SYSTEM]
    for fields, stems in ((("response_a", "response_b"), _ANSWERS), (("model_a", "model_b"), _MODELS)):
        if not has & {*fields}:
            pairs = _pairs(names, stems)
            common |= zip(fields, pairs[0], strict=True) if len(pairs) == 1 else ()
            unclear += _choice(fields[0], [a for a, _ in pairs])
    if not is_labelled(has):
        winners = [names[name] for name in WINNERS if name in names]
        annotators = tuple(names[name] for name in ANNOTATORS if name in names and not winners)
        if len(winners) == 1:
            common["winner"] = winners[0]
        unclear += _choice("winner", winners)
    return Names(own, common, annotators, tuple(unclear))


def _pairs(names: Mapping[str, str], stems: Sequence[str]) -> list[tuple[str, str]]:
    """The columns of each two sides, such as output_1 and output_2; not of three, nor of those that count from 0."""
    found = []
    for stem in stems:
        sides = {
            name[len(stem) :].strip("_"): name
            for name in names
            if re.fullmatch(f"{stem}_?(?:[a-d]|\\d)", name)
        }
        if tuple(sorted(sides)) in (("a", "b"), ("1", "2")):
            a, b = sorted(sides)
            found.append((names[sides[a]], names[sides[b]]))
    return found


def side_of(column: str) -> str:
    """The side in a column's name, such as 1 of output1 and a of `Answer A`; empty if it ends with none."""
    found = re.search(r"(?:(?:^|[\s_-])[abAB]|[a-z][AB]|[12])$", column.strip())
    return found[0][-1].lower() if found else ""


def _choice(field: str, columns: Sequence[str]) -> list[str]:
    """What to say where more than one column may be the field."""
    if len(columns) < 2:
        return []
    return [f"{field} may be {' or '.join(columns)}: --map '{field}={columns[0]}'"]
