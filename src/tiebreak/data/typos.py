"""Pairs of short texts that are one letter apart: changed, missing, added, or exchanged with the next.

Shingles cannot find them: below 49 characters one letter changes more than a fifth. Here each letter is hidden,
left out and exchanged, and texts that then are the same are found by their hashes (neighbourhoods as in Mor and
Fraenkel 1982, doi:10.1093/comjnl/25.1.6).

Only letters of a word of at least LETTERS count, in an alphabet with case (Latin, Greek, Cyrillic; texts come in
small letters). In shorter words one letter makes another word more often than a slip of the hand, and so do
digits, operators, and signs that stand for a syllable, a word or, as in Arabic, a root.
"""

import re
from array import array
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

LETTERS = 4
SHORTEST, LONGEST = 12, 64
"""Characters of a text that is compared."""

_WORD = re.compile(rf"(?<!\S)[a-z\u0370-\u052f]{{{LETTERS},}}(?!\S)")


def one_letter_apart(texts: Sequence[str]) -> NDArray[np.int64]:
    """Pairs of different texts, shape (pairs, 2), the earlier one first.

    Of texts that differ in the same letter those that follow each other are paired, so that all are connected.
    """
    number = {text: n for n, text in enumerate(texts) if SHORTEST <= len(text) <= LONGEST}
    hidden, owner = array("q"), array("q")
    pairs: list[tuple[int, int]] = []
    for text, n in number.items():
        for at in _letters(text):
            before, letter, after = text[:at], text[at], text[at + 1 :]
            hidden.append(hash((before, after)))
            owner.append(n)
            for other in (before + after, before + after[:1] + letter + after[1:]):
                if number.get(other, n) != n:
                    pairs.append((n, number[other]))
    hidden_H, owner_H = np.frombuffer(hidden, np.int64), np.frombuffer(owner, np.int64)
    order_H = np.argsort(hidden_H, kind="stable")
    meet = np.flatnonzero(np.diff(hidden_H[order_H]) == 0)
    pairs += zip(owner_H[order_H[meet]].tolist(), owner_H[order_H[meet + 1]].tolist(), strict=True)
    return np.unique(np.sort(np.array(pairs, np.int64).reshape(-1, 2), axis=1), axis=0)


def _letters(text: str) -> Iterator[int]:
    """Where the letters are that count."""
    for word in _WORD.finditer(text):
        yield from range(*word.span())
