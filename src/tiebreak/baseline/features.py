"""Plain features of a vote's texts: lengths, formatting, refusals, overlap with the prompt, script.

Dimension letters: N votes, F features.
"""

import re
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import log1p
from string import ascii_uppercase, digits

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tiebreak.votes.formats.dialog import clean
from tiebreak.votes.scripts import script

Array = NDArray[np.float64]

_NO_SPACES = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"[{_NO_SPACES}]|[^\W{_NO_SPACES}]+")
"""A pattern of a word, or of a character of kana or Han, which are written without spaces."""

_FUNCTION_WORDS = frozenset(
    "a about an and are as at be but by can could do does for from had has have he how i if in into is it its me "
    "my no not of on or our she should so than that the their then there they this to was we were what when where "
    "which who why will with would you your".split()
)

_CAPITALS, _DIGITS = ascii_uppercase.encode(), digits.encode()

_PATTERNS = tuple(
    map(
        re.compile,
        (
            r"\n[ \t]*(?:[-*+•][ \t]|\d+[.)][ \t])",  # list items
            r"\n#{1,6}[ \t]",  # headings
            r"\n\|",  # table rows
            r"\*\*[^*\n]+\*\*",  # bold
            r"`[^`\n]+`",  # code within a line
        ),
    )
)
"""Patterns counted in an answer; each starts with a plain character, which makes the search fast."""

_SUBSTRINGS = (
    "\n", "\n\n", "```", "http", "?", "!", '"', "(", ":", ",", ".", "。", "for example", "important to note",
)  # fmt: skip
"""Substrings counted in an answer."""

_REFUSALS = (
    "i cannot", "i can't", "i can’t", "i am unable", "i'm unable", "i'm not able", "i am not able", "i won't", "as an ai",
    "language model",
)  # fmt: skip
"""Phrases of refusals in lower case, counted together."""

_WORDS = tuple(
    frozenset(words.split())
    for words in (
        "sorry apologize apologise apologies unfortunately",
        "may might could perhaps possibly however generally",
        "because therefore first second finally additionally overall such",
        "i my me",
        "you your yours",
        "not no never",
    )
)
"""Sets of words counted in an answer: apologies, hedges, connectives, persons, negations."""

_TASK_WORDS = tuple(
    frozenset(words.split())
    for words in (
        "what who when where which",
        "why how explain describe",
        "write compose create generate draft",
        "list steps ways ideas examples",
        "code python function java javascript sql html script program",
        "calculate solve equation sum number",
        "brief short concise summarize summarise words sentence",
        "rewrite edit correct improve translate paraphrase",
        "story poem song joke act roleplay pretend",
        "opinion think best recommend should",
    )
)
"""Sets of words for kinds of tasks; the feature is 1 where a prompt has one of them."""


@dataclass(frozen=True)
class Features:
    """Features that change their sign when the answers are exchanged, odd (n, F), and that do not, even (n, F), exactly."""

    odd_NF: Array
    even_NF: Array


class Text:
    """A prompt or an answer, all turns together."""

    def __init__(self, turns: Sequence[str | None]) -> None:
        self.turns = len(turns)
        self.text = "\n".join(clean(turn or "") for turn in turns)
        self.words = _WORD.findall(self.text.lower())

    @cached_property
    def counts(self) -> Counter[str]:
        return Counter(self.words)

    @cached_property
    def vocabulary(self) -> frozenset[str]:
        return frozenset(self.counts)

    @cached_property
    def content(self) -> frozenset[str]:
        return self.vocabulary - _FUNCTION_WORDS

    @cached_property
    def pairs(self) -> frozenset[tuple[str, str]]:
        return frozenset(zip(self.words, self.words[1:], strict=False))

    @cached_property
    def script(self) -> str:
        return script([self.text])


def texts(turns: pa.ChunkedArray) -> list[Text]:
    """The texts of a column of votes.schema.SCHEMA."""
    return [Text(cell or ()) for cell in turns.to_pylist()]


def features(prompts: Sequence[Text], a: Sequence[Text], b: Sequence[Text]) -> Features:
    """The features of votes: odd ones, A's less B's, and even ones, which do not depend on the order of the answers."""
    a_NF, b_NF = (
        np.array(
            [
                _answer(text) + _prompt_overlap(prompt, text)
                for prompt, text in zip(prompts, side, strict=True)
            ]
        )
        for side in (a, b)
    )
    rest_NF = np.array([_prompt(p) + _answer_pair(x, y) for p, x, y in zip(prompts, a, b, strict=True)])
    odd_NF = a_NF - b_NF
    return Features(odd_NF, np.hstack([a_NF + b_NF, rest_NF]))


def _answer(answer: Text) -> list[float]:
    """Features of an answer alone: size, variety, letters, counts."""
    text, words = answer.text, answer.words
    length, encoded = max(len(text), 1), text.encode()
    return [
        log1p(len(text)),
        log1p(len(words)),
        log1p(len(answer.vocabulary)),
        len(answer.vocabulary) / max(len(words), 1),
        len(zlib.compress(encoded, 1)) / max(len(encoded), 50),
        sum(map(len, words)) / max(len(words), 1),
        _count(encoded, _CAPITALS) / length,
        log1p(_count(encoded, _DIGITS)),
        (len(encoded) - len(text)) / length,
        float(text.rstrip()[-1:] in tuple('.!?。！？)`"')),
        log1p(max(map(len, text.split("\n")))),
        *(log1p(len(pattern.findall("\n" + text))) for pattern in _PATTERNS),
        *(log1p(text.count(substring)) for substring in _SUBSTRINGS),
        log1p(sum(map(text.lower().count, _REFUSALS))),
        *(log1p(sum(answer.counts[word] for word in words)) for words in _WORDS),
    ]


def _prompt_overlap(prompt: Text, answer: Text) -> list[float]:
    """Features of an answer and its prompt: words in common, and the script."""
    shared = len(prompt.content & answer.content)
    opening = frozenset(answer.words[:25])
    return [
        shared / max(len(prompt.content), 1),
        shared / max(len(answer.content), 1),
        shared / max(len(prompt.content | answer.content), 1),
        len(prompt.content & opening) / max(len(opening), 1),
        sum(map(answer.counts.__getitem__, prompt.content & answer.content)) / max(len(answer.words), 1),
        len(prompt.pairs & answer.pairs) / max(len(prompt.pairs), 1),
        float(prompt.script == answer.script),
    ]


def _prompt(prompt: Text) -> list[float]:
    """Features of a prompt alone: size, letters, kinds of tasks."""
    text = prompt.text
    return [
        float(prompt.turns),
        log1p(len(text)),
        log1p(len(prompt.words)),
        log1p(text.count("\n")),
        log1p(_count(text.encode(), _DIGITS)),
        float(prompt.script == "Latin"),
        float(text.isascii()),
        float("?" in text or "？" in text),
        float("```" in text),
        *(float(not words.isdisjoint(prompt.counts)) for words in _TASK_WORDS),
    ]


def _answer_pair(a: Text, b: Text) -> list[float]:
    """Features of the similarity of two answers."""
    return [
        len(a.vocabulary & b.vocabulary) / max(len(a.vocabulary | b.vocabulary), 1),
        len(a.pairs & b.pairs) / max(len(a.pairs | b.pairs), 1),
        float(a.text == b.text),
        float(a.words[:1] == b.words[:1]),
        float(a.words[:4] == b.words[:4]),
        float(not a.words or not b.words),
        float(a.script == b.script),
    ]


def _count(encoded: bytes, letters: bytes) -> int:
    return len(encoded) - len(encoded.translate(None, letters))
