"""From a vote to token ids: template, truncation and swap. One copy for training, TTA and serving.

Every text is tokenised once; both orders are put together from the same pieces, so that swapping the
answers swaps exactly their tokens. Texts are encoded with special tokens switched off: a text that spells
`<eos>` or the template's own markers stays text.

Dimension letters: N votes, T tokens.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from tiebreak.errors import TiebreakError
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

ENCODE_CHUNK = 4096
Tokens = NDArray[np.int32]


@dataclass(frozen=True)
class Ragged:
    """Texts of different lengths in one array: text n is values_T[offsets[n]:offsets[n + 1]]."""

    values_T: Tokens
    offsets: NDArray[np.int64]

    @classmethod
    def of(cls, texts: Sequence[Sequence[int]]) -> "Ragged":
        lengths = np.fromiter(map(len, texts), dtype=np.int64, count=len(texts))
        values = np.fromiter((t for text in texts for t in text), dtype=np.int32, count=int(lengths.sum()))
        return cls(values, np.concatenate([[0], np.cumsum(lengths)]))

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
    prompt_tokens: int

    def __len__(self) -> int:
        return len(self.prompts.offsets) - 1

    def row(self, vote: int, order: int, max_tokens: int) -> Tokens:
        """Token ids (T,) of one vote, T <= max_tokens; order 0 shows answer A first, order 1 answer B."""
        prompt = self.prompts[vote]
        first, second = self.answers[order][vote], self.answers[1 - order][vote]
        kept = keep_lengths(
            len(prompt), len(first), len(second), max_tokens - self.frame_tokens, self.prompt_tokens
        )
        parts = (prompt[: kept[0]], first[: kept[1]], second[: kept[2]])
        head, *between = self.frame
        return np.concatenate([head, *(x for pair in zip(parts, between, strict=True) for x in pair)])

    def length(self, vote: int, max_tokens: int) -> int:
        """Tokens of the vote's row, the same in both orders."""
        texts = (len(self.prompts[vote]), len(self.answers[0][vote]), len(self.answers[1][vote]))
        return self.frame_tokens + sum(
            keep_lengths(*texts, max_tokens - self.frame_tokens, self.prompt_tokens)
        )

    @property
    def frame_tokens(self) -> int:
        return sum(map(len, self.frame))


def keep_lengths(prompt: int, first: int, second: int, budget: int, prompt_cap: int) -> tuple[int, int, int]:
    """How many tokens of each text fit into `budget`, as published.

    Nothing is cut when all fits. Otherwise the prompt is capped first, then the longer answer is cut down to
    the shorter one, then both alike, so that swapping the answers swaps the result.

    Raises TiebreakError if the budget leaves no room for answers.
    """
    if prompt + first + second <= budget:
        return prompt, first, second
    prompt = min(prompt, prompt_cap)
    room = budget - prompt
    if room < 2:
        raise TiebreakError(
            f"max_tokens leaves {budget} tokens for the texts, less than the prompt's cap of {prompt_cap} "
            "and one token an answer. Raise max_tokens or lower prompt.prompt_tokens"
        )
    if first + second <= room:
        return prompt, first, second
    if min(first, second) > room // 2:
        return prompt, room // 2, room // 2
    shorter = min(first, second)
    return prompt, min(first, room - shorter), min(second, room - shorter)


def tokenize(table: pa.Table, tokenizer: PreTrainedTokenizerBase, prompt: Prompt) -> TokenizedVotes:
    """Encode the prompts and answers of a table in data.votes.SCHEMA, each text once."""
    columns = [
        Ragged.of(_encode(tokenizer, _joined(table[c]))) for c in ("prompt", "response_a", "response_b")
    ]
    return TokenizedVotes(
        prompts=columns[0],
        answers=(columns[1], columns[2]),
        frame=_frame(tokenizer, prompt.template),
        prompt_tokens=prompt.prompt_tokens,
    )


def _joined(turns: pa.ChunkedArray) -> list[str]:
    """Turns joined by a newline, as published; a null turn is an empty text."""
    return ["\n".join(turn or "" for turn in vote or ()) for vote in turns.to_pylist()]


def _encode(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[list[int]]:
    backend: Any = tokenizer.backend_tokenizer
    as_text, backend.encode_special_tokens = backend.encode_special_tokens, True
    try:
        return [
            encoding.ids
            for start in range(0, len(texts), ENCODE_CHUNK)
            for encoding in backend.encode_batch_fast(
                list(texts[start : start + ENCODE_CHUNK]), add_special_tokens=False
            )
        ]
    finally:
        backend.encode_special_tokens = as_text


def _frame(tokenizer: PreTrainedTokenizerBase, template: str) -> tuple[Tokens, ...]:
    """The template's pieces as tokens. BOS opens the row where the family's tokenizer adds one itself."""
    pieces = _encode(tokenizer, TEMPLATES[template])
    adds_bos = tokenizer.bos_token_id is not None and tokenizer.bos_token_id in tokenizer("x")["input_ids"]
    bos: Iterable[int] = [tokenizer.bos_token_id] if adds_bos else []
    head, *between, tail = pieces
    ids = [[*bos, *head], *between, [*tail, tokenizer.eos_token_id]]
    return tuple(np.array(piece, dtype=np.int32) for piece in ids)
