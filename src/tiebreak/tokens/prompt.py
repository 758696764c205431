"""Prompt formatting of votes as token ids: template, truncation and order, for training, TTA and serving.

Every text is tokenised once; both orders are assembled from the same pieces, so that swapping the
answers swaps exactly their tokens. Texts cannot inject control tokens: special tokens are switched off while
texts are encoded, so `<eos>` in a text stays text, and the template's own markers in a text are escaped
(`tokens.markers`).

Dimension letters: N votes, T tokens.
"""

from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from tiebreak.errors import TiebreakError
from tiebreak.recipe.schema import Prompt
from tiebreak.tokens.markers import Escape, escape_for, forged, holds_marker, seen
from tiebreak.tokens.prefetch import prefetch
from tiebreak.tokens.truncation import Tokens, keep_ends, keep_lengths

TEMPLATES = {
    "published": (
        'User question:\n"""',
        '"""\nAnswer A:\n"""',
        '"""\nAnswer B:\n"""',
        '"""\n',
    )
}
"""The template pieces around prompt, first and second answer, by name. A published template never changes."""

GAP = " [...] "
"""The text in place of an omitted middle."""

ENCODE_CHUNK = 512


@dataclass(frozen=True)
class Ragged:
    """Texts of different lengths in one array: text n is values_T[offsets[n]:offsets[n + 1]].

    last: the position in each text of its last turn; 0 where turns were not encoded separately.
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
    """Tokenised prompts and answers, with the template tokens that assemble rows of a vote in either order."""

    prompts: Ragged
    answers: tuple[Ragged, Ragged]
    frame: tuple[Tokens, ...]  # template pieces; BOS before the first, EOS after the last
    gap: Tokens
    settings: Prompt

    def __len__(self) -> int:
        return len(self.prompts.offsets) - 1

    def row(self, vote: int, order: int, max_tokens: int) -> Tokens:
        """The token ids (T,) of one vote, T <= max_tokens; order 0 shows answer A first, order 1 answer B."""
        sources = (self.prompts, self.answers[order], self.answers[1 - order])
        prompt, first, second = texts = [source[vote] for source in sources]
        lengths = [len(text) for text in texts]
        if sum(lengths) + self.frame_tokens > max_tokens:
            kept = self._kept_lengths(lengths, max_tokens)
            prompt, first, second = (self._truncate(s, vote, k) for s, k in zip(sources, kept, strict=True))
        question, a, b, end = self.frame
        return np.concatenate([question, prompt, a, first, b, second, end])

    def length(self, vote: int, max_tokens: int) -> int:
        """The number of tokens in the vote's row, the same in both orders."""
        return self.frame_tokens + sum(self._kept(vote, max_tokens))

    def kept_lengths(self, max_tokens: int) -> NDArray[np.int64]:
        """The tokens (n, 3) of each vote's prompt and answers A and B that a row of max_tokens keeps."""
        kept_N3 = self.lengths
        for vote in np.flatnonzero(kept_N3.sum(axis=1) + self.frame_tokens > max_tokens).tolist():
            kept_N3[vote] = self._kept(vote, max_tokens)
        return kept_N3

    @property
    def lengths(self) -> NDArray[np.int64]:
        """The tokens (n, 3) of each vote's prompt and answers A and B, before any cut."""
        return np.stack([text.lengths for text in (self.prompts, *self.answers)], axis=1)

    def alike_when_cut(self, max_tokens: int) -> int:
        """The number of votes whose answers differ, but not in the tokens that a row of max_tokens keeps of them."""
        lengths = [text.lengths for text in (self.prompts, *self.answers)]
        cut_N = self.frame_tokens + sum(lengths) > max_tokens
        return sum(self._is_alike(vote, max_tokens) for vote in np.flatnonzero(cut_N).tolist())

    def _is_alike(self, vote: int, max_tokens: int) -> bool:
        a, b = self.answers
        kept = self._kept(vote, max_tokens)
        first, second = self._truncate(a, vote, kept[1]), self._truncate(b, vote, kept[2])
        return np.array_equal(first, second) and not np.array_equal(a[vote], b[vote])

    def _kept(self, vote: int, max_tokens: int) -> tuple[int, int, int]:
        return self._kept_lengths([len(text[vote]) for text in (self.prompts, *self.answers)], max_tokens)

    def _kept_lengths(self, lengths: Sequence[int], max_tokens: int) -> tuple[int, int, int]:
        prompt, first, second = lengths
        spare = self.settings.truncation == "balanced"
        room = max_tokens - self.frame_tokens
        return keep_lengths(prompt, first, second, room, self.settings.prompt_tokens, spare)

    def _truncate(self, text: Ragged, vote: int, kept: int) -> Tokens:
        if self.settings.truncation == "published":
            return text[vote][:kept]
        return keep_ends(text[vote], kept, int(text.last[vote]), self.gap)

    @cached_property
    def frame_tokens(self) -> int:
        return sum(map(len, self.frame))


def tokenize(table: pa.Table, tokenizer: PreTrainedTokenizerBase, prompt: Prompt) -> TokenizedVotes:
    """Encode the prompts and answers of a table in votes.schema.SCHEMA, each text once.

    Raises TiebreakError for a tokenizer whose rows could not be told apart from what texts make up.
    """
    by_turns = prompt.truncation == "balanced"
    escape = escape_for(tokenizer.backend_tokenizer, tokenizer.name_or_path)
    prompts, a, b = (
        _ragged(tokenizer, table[column], by_turns, escape)
        for column in ("prompt", "response_a", "response_b")
    )
    (gap,) = _encode(tokenizer, [GAP])
    return TokenizedVotes(
        prompts, (a, b), _frame(tokenizer, prompt.template), np.array(gap, dtype=np.int32), prompt
    )


def _ragged(
    tokenizer: PreTrainedTokenizerBase, column: pa.ChunkedArray, by_turns: bool, escape: Escape
) -> Ragged:
    """The tokenised texts of a column; `by_turns` encodes the last turn separately from those before it."""
    pieces: list[str] = []
    first_N, last_N = [0], []  # indices of pieces: the first of each text, and that of its last turn
    for turns in column.to_pylist():
        text = escape(_join_turns(turns or ()))
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
    found = Ragged(np.array(tokens, dtype=np.int32), offsets, last - offsets[:-1])
    return found if escape.is_exact else _without_forgeries(found, tokenizer, escape)


def _without_forgeries(texts: Ragged, tokenizer: PreTrainedTokenizerBase, escape: Escape) -> Ragged:
    """The same, where texts that the tokenizer itself turned into markers are encoded again, escaped, as one turn."""
    backend: Any = tokenizer.backend_tokenizer
    count = len(texts.offsets) - 1
    tokens = {}
    for start in range(0, count, ENCODE_CHUNK):
        chunk = [texts[n].tolist() for n in range(start, min(start + ENCODE_CHUNK, count))]
        for n, text in forged(backend, chunk):
            if holds_marker(seen(backend, escape(text))):
                raise TiebreakError(
                    f"the tokenizer of {tokenizer.name_or_path} makes a marker of {text!r:.100}"
                )
            (ids,) = _encode(tokenizer, [escape(text)])
            tokens[start + n] = np.array(ids, dtype=np.int32)
    if not tokens:
        return texts
    rows = [tokens.get(n, texts[n]) for n in range(count)]
    last = [0 if n in tokens else position for n, position in enumerate(texts.last.tolist())]
    offsets = np.cumsum([0, *map(len, rows)], dtype=np.int64)
    return Ragged(np.concatenate(rows), offsets, np.array(last, dtype=np.int64))


def _join_turns(turns: Sequence[str | None]) -> str:
    """The turns joined by a newline, as published; a null turn is an empty text."""
    return "\n".join(turn or "" for turn in turns)


def _encode(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> Iterator[list[int]]:
    """The token ids of each text; the next chunk is encoded in the background."""
    backend: Any = tokenizer.backend_tokenizer
    was_enabled, backend.encode_special_tokens = backend.encode_special_tokens, True
    chunks = [list(texts[start : start + ENCODE_CHUNK]) for start in range(0, len(texts), ENCODE_CHUNK)]
    encode = partial(backend.encode_batch_fast, add_special_tokens=False)
    try:
        found = map(encode, chunks)
        for encodings in prefetch(found) if len(chunks) > 1 else found:
            for encoding in encodings:
                yield encoding.ids
    finally:
        backend.encode_special_tokens = was_enabled


def _frame(tokenizer: PreTrainedTokenizerBase, template: str) -> tuple[Tokens, ...]:
    """The template's pieces as tokens, with BOS first if the family's tokenizer adds one itself."""
    if not isinstance(tokenizer.eos_token_id, int):
        raise TiebreakError(
            f"the tokenizer of {tokenizer.name_or_path} has no EOS token, with which every row ends: name one of its "
            "tokens as eos_token in its tokenizer_config.json"
        )
    pieces = list(_encode(tokenizer, TEMPLATES[template]))
    backend: Any = tokenizer.backend_tokenizer
    adds_bos = tokenizer.bos_token_id is not None and tokenizer.bos_token_id in backend.encode("x").ids
    bos: Iterable[int] = [tokenizer.bos_token_id] if adds_bos else []
    head, *between, tail = pieces
    ids = [[*bos, *head], *between, [*tail, tokenizer.eos_token_id]]
    return tuple(np.array(piece, dtype=np.int32) for piece in ids)
