"""Pairs of short texts that are one letter apart: changed, missing, added, or exchanged with the next.

Shingles cannot find them: below 49 characters one letter changes more than a fifth. Here each letter is hidden,
left out and exchanged, and texts that then are the same are found by their hashes (neighbourhoods as in Mor and
Fraenkel 1982, doi:10.1093/comjnl/25.1.6).

Only letters of a word of at least LETTERS count, in an alphabet with case (Latin, Greek, Cyrillic; texts come in
small letters). In shorter words one letter makes another word more often than a slip of the hand, and so do
digits, operators, and signs that stand for a syllable, a word or, as in Arabic, a root.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain

import numpy as np
from numpy.typing import NDArray

LETTERS = 4
SHORTEST, LONGEST = 12, 64
"""Characters of a text that is compared."""

_WORD = re.compile(rf"(?<!\S)[a-z\u0370-\u052f]{{{LETTERS - 1},}}(?!\S)")


def one_letter_apart(texts: Sequence[str]) -> NDArray[np.int64]:
    """Pairs of different texts, shape (pairs, 2), the earlier one first.

    Of texts that differ in the same letter those that follow each other are paired, so that all are connected.
    """
    short = [n for n, text in enumerate(texts) if SHORTEST <= len(text) <= LONGEST]
    words = ((n, *word.span()) for n in short for word in _WORD.finditer(texts[n]))
    alike = np.unique(_met((_hidden(texts[n], start, end), n) for n, start, end in words))
    number = {texts[n]: n for n in alike.tolist()}
    changed = _met((_hidden(text, at, at + 1), n) for text, n in number.items() for at, _ in _letters(text))
    slips = [
        (n, number[slip]) for text, n in number.items() for slip in _slips(text) if number.get(slip, n) != n
    ]
    pairs = np.concatenate([changed, np.array(slips, np.int64).reshape(-1, 2)])
    return np.unique(np.sort(pairs, axis=1), axis=0)


def _met(hashes: Iterable[tuple[int, int]]) -> NDArray[np.int64]:
    """Numbers that follow each other among those with the same hash, shape (pairs, 2)."""
    found = np.fromiter(chain.from_iterable(hashes), np.int64).reshape(-1, 2)
    found = found[np.argsort(found[:, 0], kind="stable")]
    same = np.flatnonzero(np.diff(found[:, 0]) == 0)
    return np.stack([found[same, 1], found[same + 1, 1]], axis=1)


def _hidden(text: str, start: int, end: int) -> int:
    return hash((text[:start], text[end:]))


def _slips(text: str) -> Iterator[str]:
    """The text without one of its letters, and with two of them exchanged."""
    for at, end in _letters(text):
        yield text[:at] + text[at + 1 :]
        if at + 1 < end:
            yield text[:at] + text[at + 1] + text[at] + text[at + 2 :]


def _letters(text: str) -> Iterator[tuple[int, int]]:
    """Where the letters are that count, and where their word ends."""
    for word in _WORD.finditer(text):
        if word.end() - word.start() >= LETTERS:
            yield from ((at, word.end()) for at in range(*word.span()))
