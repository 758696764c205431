"""From a vote to token ids: template, truncation and swap. One copy for training, TTA and serving.

Every text is tokenised once; both orders are put together from the same pieces, so that swapping the
answers swaps exactly their tokens. No text breaks out of its place: special tokens are switched off while
texts are encoded, so one that spells `<eos>` stays text, and one that spells the template's own markers gets
a wide colon there (U+FF1A).

Dimension letters: N votes, T tokens.
"""

import re
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from tiebreak.data.ahead import ahead
from tiebreak.data.truncation import Tokens, keep_ends, keep_lengths
from tiebreak.recipe import Prompt

TEMPLATES = {
    "published": (
        'User question:\n"""',
        '"""\nAnswer A:\n"""',
        '"""\nAnswer B:\n"""',
        '"""\n',
    )
}
"""The pieces around prompt, first and second answer. A template never changes under its name."""

_MARKER = re.compile(r'(\A"{0,2}|""")(\n(?:User question|Answer [AB])):')
"""A template's marker inside a text, or what would become one behind the quotes that open the text."""

GAP = " [...] "
"""What stands where the middle of a text is left out."""

ENCODE_CHUNK = 512


@dataclass(frozen=True)
class Ragged:
    """Texts of different lengths in one array: text n is values_T[offsets[n]:offsets[n + 1]].

    last: where in each text its last turn begins; 0 where turns were not told apart.
    """

    values_T: Tokens
    offsets: NDArray[np.int64]
    last: NDArray[np.int64]

    def __getitem__(self, n: int) -> Tokens:
        return self.values_T[self.offsets[n] : self.offsets[n + 1]]

    @property
    def lengths(self) -> NDArray[np.int64]:
        return np.diff(self.offsets)


@dataclass(frozen=True)
class TokenizedVotes:
    """Prompts and answers as tokens, and what is needed to assemble rows of a vote in either order."""

    prompts: Ragged
    answers: tuple[Ragged, Ragged]
    frame: tuple[Tokens, ...]  # template pieces; BOS before the first, EOS after the last
    gap: Tokens
    settings: Prompt

    def __len__(self) -> int:
        return len(self.prompts.offsets) - 1

    def row(self, vote: int, order: int, max_tokens: int) -> Tokens:
        """Token ids (T,) of one vote, T <= max_tokens; order 0 shows answer A first, order 1 answer B."""
        sources = (self.prompts, self.answers[order], self.answers[1 - order])
        prompt, first, second = texts = [source[vote] for source in sources]
        lengths = [len(text) for text in texts]
        if sum(lengths) + self.frame_tokens > max_tokens:
            kept = self._kept(lengths, max_tokens)
            prompt, first, second = (self._cut(s, vote, k) for s, k in zip(sources, kept, strict=True))
        question, a, b, end = self.frame
        return np.concatenate([question, prompt, a, first, b, second, end])

    def length(self, vote: int, max_tokens: int) -> int:
        """Tokens of the vote's row, the same in both orders."""
        lengths = [len(text[vote]) for text in (self.prompts, *self.answers)]
        return self.frame_tokens + sum(self._kept(lengths, max_tokens))

    def _kept(self, lengths: Sequence[int], max_tokens: int) -> tuple[int, int, int]:
        prompt, first, second = lengths
        spare = self.settings.truncation == "balanced"
        room = max_tokens - self.frame_tokens
        return keep_lengths(prompt, first, second, room, self.settings.prompt_tokens, spare)

    def _cut(self, text: Ragged, vote: int, kept: int) -> Tokens:
        if self.settings.truncation == "published":
            return text[vote][:kept]
        return keep_ends(text[vote], kept, int(text.last[vote]), self.gap)

    @cached_property
    def frame_tokens(self) -> int:
        return sum(map(len, self.frame))


def tokenize(table: pa.Table, tokenizer: PreTrainedTokenizerBase, prompt: Prompt) -> TokenizedVotes:
    """Encode the prompts and answers of a table in data.votes.SCHEMA, each text once."""
    by_turns = prompt.truncation == "balanced"
    prompts, a, b = (
        _ragged(tokenizer, table[column], by_turns) for column in ("prompt", "response_a", "response_b")
    )
    (gap,) = _encode(tokenizer, [GAP])
    return TokenizedVotes(
        prompts, (a, b), _frame(tokenizer, prompt.template), np.array(gap, dtype=np.int32), prompt
    )


def _ragged(tokenizer: PreTrainedTokenizerBase, column: pa.ChunkedArray, by_turns: bool) -> Ragged:
    """The texts of a column. By turns, the last turn is encoded apart from those before it."""
    pieces: list[str] = []
    first_N, last_N = [0], []  # pieces, by number: where each text begins, and its last turn
    for turns in column.to_pylist():
        text = _joined(turns or ())
        start = len(text) - len(turns[-1] or "") if by_turns and turns else 0
        pieces += [text[:start]] * (start > 0)
        last_N.append(len(pieces))
        pieces += [text[start:]] * (start < len(text))
        first_N.append(len(pieces))
    tokens, ends = array("i"), [0]
    for ids in _encode(tokenizer, pieces):
        tokens.fromlist(ids)
        ends.append(len(tokens))
    offsets, last = (np.array(ends, dtype=np.int64)[places] for places in (first_N, last_N))
    return Ragged(np.array(tokens, dtype=np.int32), offsets, last - offsets[:-1])


def _joined(turns: Sequence[str | None]) -> str:
    """Turns joined by a newline, as published; a null turn is an empty text."""
    text = "\n".join(turn or "" for turn in turns)
    # a search for the words first: the pattern, tried at every character, would cost as much as encoding
    if "\nUser question:" in text or "\nAnswer " in text:
        return _MARKER.sub("\\1\\2\uff1a", text)
    return text


def _encode(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> Iterator[list[int]]:
    """The ids of each text; while a chunk's are taken over, the next is encoded."""
    backend: Any = tokenizer.backend_tokenizer
    as_text, backend.encode_special_tokens = backend.encode_special_tokens, True
    chunks = [list(texts[start : start + ENCODE_CHUNK]) for start in range(0, len(texts), ENCODE_CHUNK)]
    encode = partial(backend.encode_batch_fast, add_special_tokens=False)
    try:
        for encodings in ahead(map(encode, chunks)):
            for encoding in encodings:
                yield encoding.ids
    finally:
        backend.encode_special_tokens = as_text


def _frame(tokenizer: PreTrainedTokenizerBase, template: str) -> tuple[Tokens, ...]:
    """The template's pieces as tokens. BOS opens the row where the family's tokenizer adds one itself."""
    pieces = list(_encode(tokenizer, TEMPLATES[template]))
    adds_bos = tokenizer.bos_token_id is not None and tokenizer.bos_token_id in tokenizer("x")["input_ids"]
    bos: Iterable[int] = [tokenizer.bos_token_id] if adds_bos else []
    head, *between, tail = pieces
    ids = [[*bos, *head], *between, [*tail, tokenizer.eos_token_id]]
    return tuple(np.array(piece, dtype=np.int32) for piece in ids)
