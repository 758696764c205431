"""Partial matches that link votes whose prompts differ as a whole.

A prompt is linked to another that begins with the same turns, as a conversation and its first turn do. It is linked
to one that equals its end: what stands in front is then a system prompt or an earlier turn. And it is linked to one
whose answers are the same, in either order.

Common phrases, such as a greeting, Yes or No, are no sign of a copy. So a part of a prompt has at least PROMPT_BYTES,
a pair of answers at least ANSWERS_BYTES and DIFFERENT_BYTES (UTF-8 without spaces); two refusals are no pair; and a
part that more than MANY prompts have in common links none of them. A session links all of its prompts, however many.
"""

import re
from array import array
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import accumulate, chain

import numpy as np
from numpy.typing import NDArray

from tiebreak.votes.formats.dialog import Turns

PROMPT_BYTES, ANSWERS_BYTES = 18, 120
DIFFERENT_BYTES = 12
"""Distinct bytes among the first ANSWERS_BYTES, which excludes a repeated word."""
MANY = 20
ENDS = 8
"""Ends of a prompt that are compared: after each of its first sentences or lines, and each of its last."""

_REFUSAL = re.compile(
    rb"(?:i(?:'|\xe2\x80\x99|a)?m)?sorry|i(?:must)?apologi[sz]e|asanai|ican(?:no|'|\xe2\x80\x99)t|unfortunately"
)
_LOWER, _SPACING = bytes(range(256)).lower(), b" \t\r\n"

Sentences = Sequence[Sequence[str]]
"""The turns of a prompt, each cut into sentences as votes.normalise does."""


class Parts:
    """Hashes of the parts of one file's votes, each followed by the index of the prompt."""

    def __init__(self) -> None:
        self._own = array("q")
        self._ends = array("q")
        self._sessions = array("q")

    def add(
        self, prompt: int, turns: Sentences, answers: tuple[Turns, Turns] | None, session: str | None = None
    ) -> None:
        """Add the parts of a vote, and its session."""
        if session:
            self._sessions.extend((hash(session), prompt))
        for part in chain(_beginnings(turns), _pair(*answers) if answers else ()):
            self._own.extend((hash(part), prompt))
        for part in _ends(turns):
            self._ends.extend((hash(part), prompt))

    @staticmethod
    def links(files: Collection["Parts"]) -> NDArray[np.int64]:
        """Links between consecutive prompts among those that have a part in common, shape (pairs, 2).

        An end counts where it is also a beginning or a whole prompt.
        """
        own, ends, sessions = (
            np.concatenate([np.array(part, np.int64) for part in parts]).reshape(-1, 2)
            for parts in zip(*((file._own, file._ends, file._sessions) for file in files), strict=True)
        )
        parts = np.concatenate([own, ends[np.isin(ends[:, 0], own[:, 0])]])
        return np.concatenate([_consecutive(parts, MANY), _consecutive(sessions, len(sessions))])


def _consecutive(parts: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """Links between consecutive prompts with a part in common, of (part, prompt) pairs; none where more than `most` have it."""
    parts = parts[np.lexsort((parts[:, 1], parts[:, 0]))]
    parts = parts[(np.diff(parts, axis=0, prepend=parts[-1:]) != 0).any(axis=1)]
    part = np.cumsum(np.diff(parts[:, 0], prepend=parts[:1, 0]) != 0)
    is_rare = np.bincount(part)[part] <= most
    linked = is_rare[1:] & (part[1:] == part[:-1])
    return np.stack([parts[:-1, 1][linked], parts[1:, 1][linked]], axis=1)


def _beginnings(turns: Sentences) -> Iterator[bytes]:
    """The first turn, the first two, and so on to all of them."""
    return _long_enough(accumulate(filter(None, map(" ".join, turns)), "{} {}".format))


def _ends(turns: Sentences) -> Iterator[bytes]:
    """The ends of the first turn, and of all turns, after each of their first and last sentences."""
    for count in {1, len(turns)}:
        parts = [*chain.from_iterable(turns[:count])]
        cuts = range(1, len(parts))
        yield from _long_enough(" ".join(parts[cut:]) for cut in {*cuts[:ENDS], *cuts[-ENDS:]})


def _long_enough(texts: Iterable[str]) -> Iterator[bytes]:
    return (part for text in texts if len(part := text.encode("utf-8", "replace")) >= PROMPT_BYTES)


def _pair(a: Turns, b: Turns) -> Iterator[bytes]:
    """Both answers without case and spacing, in either order, if they are long and varied enough."""
    texts = ("\n".join(filter(None, answer)).encode("utf-8", "replace") for answer in (a, b))
    answers = sorted({text.translate(_LOWER, _SPACING) for text in texts})
    pair = b"\0".join(answers)
    if len(pair) < ANSWERS_BYTES or all(map(_REFUSAL.match, answers)):
        return
    if len(set(pair[:ANSWERS_BYTES])) >= DIFFERENT_BYTES:
        yield pair
