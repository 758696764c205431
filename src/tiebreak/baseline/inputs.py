"""What the two parts of the baseline see of votes: plain features, and hashed n-grams of words and characters.

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
"""Of each kind of n-gram; hashing keeps no vocabulary, so memory has a bound and nothing is fitted."""

CHARACTERS = 1000
"""Of a text that n-grams of characters are taken from; its words are all counted."""

VOTES_AT_ONCE = 2000
"""Whose words are in memory together."""

_KINDS = (
    (None, HashingVectorizer(ngram_range=(1, 2), n_features=BUCKETS, norm=None, alternate_sign=False)),
    (
        CHARACTERS,
        HashingVectorizer(
            analyzer="char_wb", ngram_range=(3, 4), n_features=BUCKETS, norm=None, alternate_sign=False
        ),
    ),
)


@dataclass(frozen=True)
class Inputs:
    """Odd inputs change their sign when the answers are exchanged, even ones stay as they are; both to the last bit.

    odd_NF and even_NG are plain features; odd_grams is A's n-grams less B's, even_grams is the prompt's.
    """

    odd_NF: Array
    even_NG: Array
    odd_grams: csr_array
    even_grams: csr_array

    @classmethod
    def of(cls, votes: pa.Table) -> Self:
        """The inputs of votes in data.votes.SCHEMA; a row does not depend on the others."""
        starts = range(0, max(len(votes), 1), VOTES_AT_ONCE)
        return cls.joined([cls._part(votes.slice(start, VOTES_AT_ONCE)) for start in starts])

    @classmethod
    def joined(cls, parts: "Sequence[Inputs]") -> Self:
        return cls(
            np.concatenate([part.odd_NF for part in parts]),
            np.concatenate([part.even_NG for part in parts]),
            csr_array(vstack([part.odd_grams for part in parts], format="csr")),
            csr_array(vstack([part.even_grams for part in parts], format="csr")),
        )

    @classmethod
    def _part(cls, votes: pa.Table) -> Self:
        prompts, a, b = (texts(votes[column]) for column in ("prompt", "response_a", "response_b"))
        plain = features(prompts, a, b)
        return cls(plain.odd_NF, plain.even_NF, csr_array(_grams(a) - _grams(b)), _grams(prompts))

    def __len__(self) -> int:
        return len(self.odd_NF)

    def __getitem__(self, rows: NDArray[np.int64]) -> "Inputs":
        return Inputs(self.odd_NF[rows], self.even_NG[rows], self.odd_grams[rows], self.even_grams[rows])

    def dense(self, order: int) -> Array:
        """The plain features (n, F + G) as stored (order 0) or with the answers exchanged (1)."""
        return np.hstack([-self.odd_NF if order else self.odd_NF, self.even_NG])


def _grams(side: Sequence[Text]) -> csr_array:
    """1 + log of the counts of n-grams (n, 2 BUCKETS), each kind with a norm of one."""
    made = []
    for characters, vectorizer in _KINDS:
        counts = vectorizer.transform([text.text[:characters] for text in side])
        counts.data = 1 + np.log(counts.data)
        made.append(normalize(counts, copy=False))
    return csr_array(hstack(made, format="csr"))
