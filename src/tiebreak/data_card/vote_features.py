"""Numeric features of each vote for a data card, small enough for a million votes in memory.

Dimension letters: N votes, C classes (a, b, tie).
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tiebreak.votes.pair_hash import pair_hash
from tiebreak.votes.scripts import SCRIPTS, script

if TYPE_CHECKING:
    from tiebreak.tokens.prompt import TokenizedVotes

BYTES_PER_TOKEN = 4
"""The estimated bytes per token without a tokenizer."""

Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class VoteFeatures:
    """Features of votes, one entry per vote.

    p: (n, 3), NaN where there is no label. tokens: (n, 3) of prompt, response_a, response_b. models: (n, 2)
    indices, -1 for none. pair: a hash of the texts, the same when the answers are exchanged; swapped: true where
    they are, relative to the order in which pairs are compared.
    """

    p: NDArray[np.float32]
    tokens: Ints
    turns: Ints
    script: Ints
    models: Ints
    pair: NDArray[np.uint64]
    swapped: Flags
    missing: Flags
    identical: Flags

    @classmethod
    def from_batch(cls, batch: pa.RecordBatch, tokens: Ints, models: dict[str, int]) -> "VoteFeatures":
        """The features of a batch in votes.schema.SCHEMA. `models` maps names to indices and grows by new ones."""
        prompts, a, b = (batch[name].to_pylist() for name in ("prompt", "response_a", "response_b"))
        hashes = [pair_hash(*texts) for texts in zip(prompts, a, b, strict=True)]
        return cls(
            p=np.stack([_floats(batch[name]) for name in ("p_a", "p_b", "p_tie")], axis=1),
            tokens=tokens,
            turns=np.array([len(prompt) for prompt in prompts], np.int64),
            script=np.array([SCRIPTS.index(script(prompt)) for prompt in prompts], np.int64),
            models=np.stack([_model_indices(batch[name], models) for name in ("model_a", "model_b")], axis=1),
            pair=np.array([pair for pair, _ in hashes], np.uint64),
            swapped=np.array([swapped for _, swapped in hashes], bool),
            missing=np.array([not (any(x) and any(y)) for x, y in zip(a, b, strict=True)], bool),
            identical=np.array([x == y for x, y in zip(a, b, strict=True)], bool),
        )

    @classmethod
    def concatenate(cls, parts: Sequence["VoteFeatures"]) -> "VoteFeatures":
        """The concatenation of one or more parts."""
        return cls(*(np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(cls)))

    def select(self, rows: Flags) -> "VoteFeatures":
        """The features of the selected rows."""
        return VoteFeatures(*(getattr(self, f.name)[rows] for f in fields(self)))

    def __len__(self) -> int:
        return len(self.pair)


def token_counts(tokens: "TokenizedVotes") -> Ints:
    """The token counts of prompt, response_a, response_b, shape (n, 3)."""
    return np.stack([text.lengths for text in (tokens.prompts, *tokens.answers)], axis=1)


def estimated_token_counts(batch: pa.RecordBatch) -> Ints:
    """The same without a tokenizer, from bytes."""
    columns = [
        [sum(len((turn or "").encode()) + 1 for turn in turns) for turns in batch[name].to_pylist()]
        for name in ("prompt", "response_a", "response_b")
    ]
    return np.array(columns, np.int64).reshape(3, -1).T // BYTES_PER_TOKEN


def _floats(column: pa.Array) -> NDArray[np.float32]:
    return np.asarray(column.to_numpy(zero_copy_only=False), np.float32)


def _model_indices(names: pa.Array, models: dict[str, int]) -> Ints:
    return np.array(
        [-1 if n is None else models.setdefault(n, len(models)) for n in names.to_pylist()], np.int64
    )
