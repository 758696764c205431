"""Parts that make two votes one although their prompts differ as a whole.

A prompt is linked to another that begins with the same turns, or is the same but for turns that follow: a
conversation and its first turn. It is linked to one that ends alike where that has nothing else: what stands in
front is then a system prompt or an earlier turn. And it is linked to one whose answers are the same, in either
order.

What many say is no sign of a copy: a greeting, Yes and No. So a part of a prompt has at least PROMPT_BYTES, a pair
of answers at least ANSWERS_BYTES and DIFFERENT_BYTES (UTF-8 without spaces); two refusals are no pair; and what
more than MANY prompts have in common links none of them.
"""

import re
from array import array
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import accumulate, chain

import numpy as np
from numpy.typing import NDArray

from tiebreak.data.dialog import Turns

PROMPT_BYTES, ANSWERS_BYTES = 18, 120
DIFFERENT_BYTES = 12
"""Of the first ANSWERS_BYTES: a repeated word is no text."""
MANY = 20
ENDS = 8
"""Ends of a prompt that are looked at: after each of its first sentences or lines, and each of its last."""

_REFUSAL = re.compile(
    rb"(?:i(?:'|\xe2\x80\x99|a)?m)?sorry|i(?:must)?apologi[sz]e|asanai|ican(?:no|'|\xe2\x80\x99)t|unfortunately"
)
_LOWER, _SPACING = bytes(range(256)).lower(), b" \t\r\n"

Said = Sequence[Sequence[str]]
"""The turns of a prompt, each cut into sentences as data.normalise does."""


class Parts:
    """Hashes of the parts of one file's votes, each followed by the number of the prompt."""

    def __init__(self) -> None:
        self._own = array("q")
        self._ends = array("q")

    def add(self, prompt: int, said: Said, answers: tuple[Turns, Turns] | None) -> None:
        """Take the parts of a vote."""
        for part in chain(_beginnings(said), _pair(*answers) if answers else ()):
            self._own.extend((hash(part), prompt))
        for part in _ends(said):
            self._ends.extend((hash(part), prompt))

    @staticmethod
    def links(files: Collection["Parts"]) -> NDArray[np.int64]:
        """Pairs of prompts that follow each other among those that have a part in common, shape (pairs, 2).

        An end counts where it is also a beginning or a whole.
        """
        own = np.concatenate([np.array(file._own, np.int64) for file in files]).reshape(-1, 2)
        ends = np.concatenate([np.array(file._ends, np.int64) for file in files]).reshape(-1, 2)
        parts = np.concatenate([own, ends[np.isin(ends[:, 0], own[:, 0])]])
        parts = parts[np.lexsort((parts[:, 1], parts[:, 0]))]
        parts = parts[(np.diff(parts, axis=0, prepend=parts[-1:]) != 0).any(axis=1)]
        part = np.cumsum(np.diff(parts[:, 0], prepend=parts[:1, 0]) != 0)
        few = np.bincount(part)[part] <= MANY
        linked = few[1:] & (part[1:] == part[:-1])
        return np.stack([parts[:-1, 1][linked], parts[1:, 1][linked]], axis=1)


def _beginnings(said: Said) -> Iterator[bytes]:
    """The first turn, the first two, and so on to all of them."""
    return _enough(accumulate(filter(None, map(" ".join, said)), "{} {}".format))


def _ends(said: Said) -> Iterator[bytes]:
    """What is left of the first turn, and of all of them, without their first sentences."""
    for turns in {1, len(said)}:
        parts = [*chain.from_iterable(said[:turns])]
        cuts = range(1, len(parts))
        yield from _enough(" ".join(parts[cut:]) for cut in {*cuts[:ENDS], *cuts[-ENDS:]})


def _enough(texts: Iterable[str]) -> Iterator[bytes]:
    return (part for text in texts if len(part := text.encode("utf-8", "replace")) >= PROMPT_BYTES)


def _pair(a: Turns, b: Turns) -> Iterator[bytes]:
    """Both answers without case and spacing, in either order, if they say enough."""
    texts = ("\n".join(filter(None, answer)).encode("utf-8", "replace") for answer in (a, b))
    said = sorted({text.translate(_LOWER, _SPACING) for text in texts})
    pair = b"\0".join(said)
    if len(pair) < ANSWERS_BYTES or all(map(_REFUSAL.match, said)):
        return
    if len(set(pair[:ANSWERS_BYTES])) >= DIFFERENT_BYTES:
        yield pair
