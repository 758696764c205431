"""Inputs of the baseline's parts: plain features, and hashed words and pairs of words.

Dimension letters: N votes, F odd features, G even features.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.sparse import csr_array, hstack, vstack
from sklearn.feature_extraction.text import HashingVectorizer
from sklearn.preprocessing import normalize

from tiebreak.baseline.features import Text, features, texts

Array = NDArray[np.float64]

BUCKETS = 2**16
"""Hash buckets of words and pairs of words; without a vocabulary, memory is bounded and nothing is fitted."""

VOTES_AT_ONCE = 2000
"""Votes whose words are in memory at the same time."""


def _terms(text: Text) -> list[str]:
    return text.words + list(map(" ".join, zip(text.words, text.words[1:], strict=False)))


_VECTORIZER = HashingVectorizer(analyzer=_terms, n_features=BUCKETS, norm=None, alternate_sign=False)


@dataclass(frozen=True)
class Inputs:
    """Inputs of votes: odd ones change their sign when the answers are exchanged, even ones do not, exactly.

    odd_NF and even_NG are plain features; odd_words (n, BUCKETS) is A's words less B's, even_words (n, 2 BUCKETS) the
    size of that difference and the prompt's words.
    """

    odd_NF: Array
    even_NG: Array
    odd_words: csr_array
    even_words: csr_array

    @classmethod
    def of(cls, votes: pa.Table) -> Self:
        """The inputs of votes in votes.schema.SCHEMA; a row does not depend on the others."""
        parts = [
            cls._part(votes.slice(start, VOTES_AT_ONCE)) for start in range(0, len(votes), VOTES_AT_ONCE)
        ]
        return cls(
            np.concatenate([part.odd_NF for part in parts]),
            np.concatenate([part.even_NG for part in parts]),
            csr_array(vstack([part.odd_words for part in parts], format="csr")),
            csr_array(vstack([part.even_words for part in parts], format="csr")),
        )

    @classmethod
    def _part(cls, votes: pa.Table) -> Self:
        prompts, a, b = (texts(votes[column]) for column in ("prompt", "response_a", "response_b"))
        plain = features(prompts, a, b)
        odd_words = csr_array(_words(a) - _words(b))
        even_words = csr_array(hstack([abs(odd_words), _words(prompts)], format="csr"))
        return cls(plain.odd_NF, plain.even_NF, odd_words, even_words)

    def __len__(self) -> int:
        return len(self.odd_NF)

    def __getitem__(self, rows: NDArray[np.int64]) -> "Inputs":
        return Inputs(self.odd_NF[rows], self.even_NG[rows], self.odd_words[rows], self.even_words[rows])

    def dense(self, order: int) -> Array:
        """The plain features (n, F + G) as stored (order 0) or with the answers exchanged (1)."""
        return np.hstack([-self.odd_NF if order else self.odd_NF, self.even_NG])


def _words(side: Sequence[Text]) -> csr_array:
    """The matrix (n, BUCKETS) of 1 + log counts of words and pairs of words, each row of norm one."""
    counts = _VECTORIZER.transform(side)
    counts.data = 1 + np.log(counts.data)
    return csr_array(normalize(counts, copy=False))
