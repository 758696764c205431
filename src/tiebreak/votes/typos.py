"""Search for pairs of short texts one edit apart: a letter changed, missing, added, or exchanged with the next.

Shingles cannot find them: below 49 characters one letter changes more than a fifth of them. Here each letter is
masked, deleted and transposed, and texts that then are equal are found by their hashes (deletion neighbourhoods as in
Mor and Fraenkel 1982, doi:10.1093/comjnl/25.1.6).

Only letters of a word of at least LETTERS count, in an alphabet with case (Latin, Greek, Cyrillic; texts come in
lower case). In shorter words a changed letter is more often another word than a typo, and so are changed digits,
operators, and signs that stand for a syllable, a word or, as in Arabic, a root.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain

import numpy as np
from numpy.typing import NDArray

LETTERS = 4
SHORTEST, LONGEST = 12, 64
"""The range of lengths, in characters, of the texts that are compared."""

_WORD = re.compile(rf"(?<!\S)[a-z\u0370-\u052f]{{{LETTERS - 1},}}(?!\S)")


def one_letter_apart(texts: Sequence[str]) -> NDArray[np.int64]:
    """Pairs of different texts one edit apart, shape (pairs, 2), the earlier one first.

    Of texts that differ in the same letter consecutive ones are paired, so that all are connected.
    """
    short = [n for n, text in enumerate(texts) if SHORTEST <= len(text) <= LONGEST]
    words = ((n, *word.span()) for n in short for word in _WORD.finditer(texts[n]))
    candidates = np.unique(_collisions((_masked_hash(texts[n], start, end), n) for n, start, end in words))
    index_of = {texts[n]: n for n in candidates.tolist()}
    substitutions = _collisions(
        (_masked_hash(text, at, at + 1), n) for text, n in index_of.items() for at, _ in _letters(text)
    )
    edits = [
        (n, index_of[edit])
        for text, n in index_of.items()
        for edit in _edits(text)
        if index_of.get(edit, n) != n
    ]
    pairs = np.concatenate([substitutions, np.array(edits, np.int64).reshape(-1, 2)])
    return np.unique(np.sort(pairs, axis=1), axis=0)


def _collisions(hashes: Iterable[tuple[int, int]]) -> NDArray[np.int64]:
    """Pairs of consecutive indices with the same hash, shape (pairs, 2)."""
    rows = np.fromiter(chain.from_iterable(hashes), np.int64).reshape(-1, 2)
    rows = rows[np.argsort(rows[:, 0], kind="stable")]
    same = np.flatnonzero(np.diff(rows[:, 0]) == 0)
    return np.stack([rows[same, 1], rows[same + 1, 1]], axis=1)


def _masked_hash(text: str, start: int, end: int) -> int:
    return hash((text[:start], text[end:]))


def _edits(text: str) -> Iterator[str]:
    """The text with each letter deleted, and with each two adjacent ones transposed."""
    for at, end in _letters(text):
        yield text[:at] + text[at + 1 :]
        if at + 1 < end:
            yield text[:at] + text[at + 1] + text[at] + text[at + 2 :]


def _letters(text: str) -> Iterator[tuple[int, int]]:
    """The positions of the letters that count, and the end of each one's word."""
    for word in _WORD.finditer(text):
        if word.end() - word.start() >= LETTERS:
            yield from ((at, word.end()) for at in range(*word.span()))
