"""Detection of the script that a prompt is written in."""

from collections.abc import Sequence

import numpy as np

# first code point and script of every range of letters with a name; the rest is "other"
_RANGES: tuple[tuple[int, str], ...] = (
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
_STARTS = np.array([start for start, _ in _RANGES])
_NAMES = sorted({name for _, name in _RANGES} - {"other"})
_INDEX = np.array([_NAMES.index(name) if name in _NAMES else len(_NAMES) for _, name in _RANGES])

_SAMPLED = 4000
"""Characters of a prompt that decide its script."""

SCRIPTS = (*_NAMES, "none")
"""The names of the scripts; "none" is for prompts without letters of any."""


def script(prompt: Sequence[str | None]) -> str:
    """The most frequent script of a prompt's letters, one of SCRIPTS; Kana for Japanese, which mixes it with more Han."""
    text = "".join(turn or "" for turn in prompt)[:_SAMPLED]
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    index = _INDEX[np.searchsorted(_STARTS, codes, side="right") - 1]
    counts = np.bincount(index, minlength=len(_NAMES) + 1)[: len(_NAMES)]
    if not counts.any():
        return "none"
    if counts[_NAMES.index("Kana")] > 0.1 * counts.sum():
        return "Kana"
    return _NAMES[int(counts.argmax())]
