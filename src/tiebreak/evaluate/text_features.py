"""Text features of votes: length, formatting, turns, script.

Dimension letter: N votes.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tiebreak.votes.scripts import script

Counts = NDArray[np.int64]

_MARKS = re.compile(r"^\s*(?:[-*+•]\s|\d+[.)]\s|#{1,6}\s|\|.*\||```)|\*\*[^*\n]+\*\*", re.MULTILINE)

STYLE = ("length", "headings", "lists", "bold")
"""What `style` counts: characters, and Markdown's headings, list items and bold texts."""
_STYLE = tuple(
    re.compile(pattern, re.MULTILINE)
    for pattern in (r"^\s*#{1,6}\s", r"^\s*(?:[-*+•]|\d+[.)])\s", r"\*\*[^*\n]+\*\*|__[^_\n]+__")
)


def style(turns: Sequence[str | None]) -> tuple[int, ...]:
    """The counts named in STYLE of an answer, all turns together."""
    texts = [turn or "" for turn in turns]
    return (
        sum(map(len, texts)),
        *(sum(len(pattern.findall(text)) for text in texts) for pattern in _STYLE),
    )


def lengths(answers: pa.ChunkedArray) -> Counts:
    """Characters (n,) of each answer, all turns together."""
    return _sum_over_turns(len, answers)


def marks(answers: pa.ChunkedArray) -> Counts:
    """Markdown marks (n,) of each answer: list items, headings, table rows, code fences, bold."""
    return _sum_over_turns(lambda text: len(_MARKS.findall(text)), answers)


def turns(prompts: pa.ChunkedArray) -> Counts:
    """Turns (n,) of each conversation."""
    return np.array([len(prompt) for prompt in prompts.to_pylist()], dtype=np.int64)


def scripts(prompts: pa.ChunkedArray) -> NDArray[Any]:
    """The script (n,) of each prompt (votes.scripts)."""
    return np.array([script(prompt) for prompt in prompts.to_pylist()], dtype=str)


def _sum_over_turns(count: Callable[[str], int], answers: pa.ChunkedArray) -> Counts:
    texts = answers.to_pylist()
    return np.array([sum(count(turn or "") for turn in turns) for turns in texts], dtype=np.int64)
