"""What is plain to see in a vote's texts: length, formatting, turns, script.

Dimension letter: N votes.
"""

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

Counts = NDArray[np.int64]

_MARKS = re.compile(r"^\s*(?:[-*+•]\s|\d+[.)]\s|#{1,6}\s|\|.*\||```)|\*\*[^*\n]+\*\*", re.MULTILINE)

# first code point and script of every stretch of letters worth naming; the rest is "other"
_SCRIPTS: tuple[tuple[int, str], ...] = (
    (0x0000, "other"),
    (0x0041, "Latin"),
    (0x005B, "other"),
    (0x0061, "Latin"),
    (0x007B, "other"),
    (0x00C0, "Latin"),
    (0x0250, "other"),
    (0x0370, "Greek"),
    (0x0400, "Cyrillic"),
    (0x0530, "other"),
    (0x0590, "Hebrew"),
    (0x0600, "Arabic"),
    (0x0700, "other"),
    (0x0900, "Devanagari"),
    (0x0980, "other"),
    (0x0E00, "Thai"),
    (0x0E80, "other"),
    (0x1E00, "Latin"),
    (0x1F00, "Greek"),
    (0x2000, "other"),
    (0x3040, "Kana"),
    (0x3100, "other"),
    (0x3400, "Han"),
    (0xA000, "other"),
    (0xAC00, "Hangul"),
    (0xD7B0, "other"),
    (0xF900, "Han"),
    (0xFB00, "other"),
)
_STARTS = np.array([start for start, _ in _SCRIPTS])
_NAMES = sorted({name for _, name in _SCRIPTS} - {"other"})
_INDEX = np.array([_NAMES.index(name) if name in _NAMES else len(_NAMES) for _, name in _SCRIPTS])

_LOOKED_AT = 4000
"""Characters of a prompt that decide its script."""


def lengths(answers: pa.ChunkedArray) -> Counts:
    """Characters (n,) of each answer, all turns together."""
    return _counted(len, answers)


def marks(answers: pa.ChunkedArray) -> Counts:
    """Markdown marks (n,) of each answer: list items, headings, table rows, code fences, bold."""
    return _counted(lambda text: len(_MARKS.findall(text)), answers)


def turns(prompts: pa.ChunkedArray) -> Counts:
    """Turns (n,) of each conversation."""
    return np.array([len(prompt) for prompt in prompts.to_pylist()], dtype=np.int64)


def scripts(prompts: pa.ChunkedArray) -> NDArray[Any]:
    """The script (n,) of most letters of each prompt; Kana for Japanese, "none" without letters."""
    texts = ("".join(turn or "" for turn in turns) for turns in prompts.to_pylist())
    return np.array([_script(text) for text in texts], dtype=str)


def _counted(count: Callable[[str], int], answers: pa.ChunkedArray) -> Counts:
    texts = answers.to_pylist()
    return np.array([sum(count(turn or "") for turn in turns) for turns in texts], dtype=np.int64)


def _script(text: str) -> str:
    codes = np.frombuffer(text[:_LOOKED_AT].encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    index = _INDEX[np.searchsorted(_STARTS, codes, side="right") - 1]
    counts = np.bincount(index, minlength=len(_NAMES) + 1)[: len(_NAMES)]
    if not counts.any():
        return "none"
    if counts[_NAMES.index("Kana")] > 0.1 * counts.sum():  # Japanese mixes Kana with more Han
        return "Kana"
    return _NAMES[int(counts.argmax())]
