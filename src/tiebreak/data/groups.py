"""Prompts that ask the same thing form one group: the unit that folds and the lockbox never cut.

Two prompts are the same if they are equal without case, punctuation and spacing, and nearly the same if
the Jaccard similarity of their 5-character shingles is at least THRESHOLD (data.minhash). Groups are the
connected components, so a chain of near-duplicates stays together, in folds as in what files have in common. A
blank prompt says nothing, there the answers are compared.
"""

import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from itertools import chain
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tiebreak.data import minhash
from tiebreak.data.dialog import Turns
from tiebreak.data.streaming import batches

THRESHOLD = 0.8

_NOT_WORDS = re.compile(r"[\W_]+")


def normalise(prompt: Turns) -> str:
    """All turns as one text without case, punctuation and spacing (Unicode NFKC).

    A prompt of nothing but punctuation stays as it is.
    """
    text = unicodedata.normalize("NFKC", "\n".join(turn or "" for turn in prompt)).casefold()
    return _NOT_WORDS.sub(" ", text).strip() or " ".join(text.split())


@dataclass(frozen=True)
class Prompts:
    """The distinct prompts of several files and which of them are nearly the same.

    names: a hash of each distinct prompt, in order of first appearance. rows: for each file, the number of
    each row's prompt among them, shape (rows,). similar: pairs of them, shape (pairs, 2).
    """

    names: list[str]
    rows: dict[str, NDArray[np.int64]]
    similar: NDArray[np.int64]

    def groups(self, file: str) -> list[str]:
        """The group of each row. A group is named after its prompt that appeared first.

        Only links within the file count, so other files move none of its groups; appending rows moves one
        only where a new prompt links two groups.
        """
        inside = np.zeros(len(self.names), dtype=bool)
        inside[self.rows[file]] = True
        first = _firsts(len(self.names), self.similar[inside[self.similar].all(axis=1)])
        return [self.names[n] for n in first[self.rows[file]].tolist()]

    def group_sizes(self) -> NDArray[np.int64]:
        """How many rows of all files each group has, taken over all of them together."""
        sizes = np.bincount(self._first[np.concatenate(list(self.rows.values()))])
        return sizes[sizes > 0]

    def also_in(self, file: str, other: str) -> NDArray[np.bool_]:
        """For each row of a file, whether the group of its prompt, over all files, has a prompt in the other."""
        return np.isin(self._first[self.rows[file]], self._first[self.rows[other]])

    @cached_property
    def _first(self) -> NDArray[np.int64]:
        """For each prompt the first of its group, over all files."""
        return _firsts(len(self.names), self.similar)


def read(files: Mapping[str, Path]) -> Prompts:
    """Compare the prompts of Parquet files of votes (data.votes.SCHEMA) with each other."""
    columns = ["prompt", "response_a", "response_b"]
    return compare(
        {name: chain.from_iterable(map(questions, batches(path, columns))) for name, path in files.items()}
    )


def questions(batch: pa.RecordBatch) -> Iterator[Turns]:
    """What each vote of a batch is about: its prompt, or where that is blank its answers, in either order."""
    for n, prompt in enumerate(batch["prompt"].to_pylist()):
        if any(turn and not turn.isspace() for turn in prompt):
            yield prompt
        else:
            a, b = (batch[name][n].as_py() for name in ("response_a", "response_b"))
            yield min(a, b, key=repr) + max(a, b, key=repr)


def compare(prompts: Mapping[str, Iterator[Turns]]) -> Prompts:
    """Compare prompts by the name of where they come from."""
    number: dict[str, int] = {}
    texts: list[str] = []
    rows: dict[str, NDArray[np.int64]] = {}
    for key, source in prompts.items():
        found = []
        for prompt in source:
            text = normalise(prompt)
            digest = blake2b(text.encode("utf-8", "replace"), digest_size=10).hexdigest()
            found.append(number.setdefault(digest, len(texts)))
            if found[-1] == len(texts):
                texts.append(text[: minhash.LONGEST])
        rows[key] = np.array(found, dtype=np.int64)
    similar = minhash.similar_pairs(texts, minhash.sketches(texts), THRESHOLD)
    return Prompts(list(number), rows, similar)


def prompt_numbers(votes: pa.Table) -> NDArray[np.int64]:
    """A number (n,) for each vote's group, the same for votes on nearly the same prompt."""
    prompts = compare({"votes": chain.from_iterable(map(questions, votes.to_batches()))})
    return np.unique(prompts.groups("votes"), return_inverse=True)[1].astype(np.int64)


def _firsts(count: int, links: NDArray[np.int64]) -> NDArray[np.int64]:
    """For each of `count` nodes, the lowest number in its connected component (union-find)."""
    root = list(range(count))

    def find(n: int) -> int:
        while root[n] != n:
            root[n] = root[root[n]]
            n = root[n]
        return n

    for a, b in links.tolist():
        a, b = find(a), find(b)
        root[max(a, b)] = min(a, b)
    return np.array([find(n) for n in range(count)], dtype=np.int64)
