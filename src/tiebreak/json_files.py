"""JSON that others wrote. An object that has a key twice is refused: which of the values counts would be a guess."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

from tiebreak.errors import TiebreakError
from tiebreak.regular_file import require_regular

_TOO_DEEP = "it is nested too deep"


class RepeatedKey(ValueError):
    """An object that has a key twice."""

    def __init__(self, key: str) -> None:
        super().__init__(f"the key {key!r:.100} is there twice")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        counts = Counter(key for key, _ in pairs)
        raise RepeatedKey(next(key for key, count in counts.items() if count > 1))
    return found


DECODER = json.JSONDecoder(strict=False, object_pairs_hook=_object)
"""Line breaks and tabs may stand in strings as they are."""

MOST_NESTED = 200
"""Levels of lists and objects, far more than any record has, and few enough for all that writes or compares them."""


def loads(text: str | bytes) -> Any:
    """The value of a JSON text in UTF-8. Raises ValueError, also for one of more than MOST_NESTED levels."""
    text = text if isinstance(text, str) else text.decode()
    try:
        found = DECODER.decode(text)
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    require_shallow(found, text)
    return found


def require_shallow(value: Any, text: str) -> None:
    """Raise ValueError for the value of a text if it has more than MOST_NESTED levels."""
    if text.count("[") + text.count("{") <= MOST_NESTED:
        return
    level = [value]
    for _ in range(MOST_NESTED):
        level = [
            inner
            for outer in level
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
    if any(isinstance(inner, dict | list) for inner in level):
        raise ValueError(_TOO_DEEP)


def checked(text: bytes) -> bytes:
    """The text, if it is JSON whose objects have no key twice. Raises ValueError as `loads` does."""
    loads(text)
    return text


def read_object(file: Path, mend: str) -> dict[str, Any]:
    """Read a file that holds a JSON object. Raises TiebreakError, with `mend`, if it cannot be read or holds another value."""
    require_regular(file, mend)
    try:
        found = loads(file.read_bytes())
    except (OSError, ValueError) as error:
        raise TiebreakError(f"{file} is damaged: {error}; {mend}") from None
    if not isinstance(found, dict):
        raise TiebreakError(f"{file} is damaged: it holds {type(found).__name__}, not an object; {mend}")
    return found
