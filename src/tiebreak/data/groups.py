"""Votes that are about the same form one group: the unit that folds and the lockbox never cut.

Two prompts are linked if, as data.normalise has them, they are equal, or similar: a Jaccard index of at least
THRESHOLD of their 5-character shingles (data.minhash), or short and one letter apart (data.typos); and if their
votes have a part in common (data.parts): the first turns, what follows a system prompt, or both answers. Groups are
the connected components, so a chain of near-duplicates stays together, in folds as in what files have in common. A
blank prompt says nothing, there the answers are compared.
"""

from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from itertools import chain
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from tiebreak.data import minhash, typos
from tiebreak.data.dialog import Turns
from tiebreak.data.normalise import normalise, sentences
from tiebreak.data.parts import Parts
from tiebreak.data.streaming import batches

THRESHOLD = 0.8

Answers = tuple[Turns, Turns]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Prompts:
    """The distinct prompts of several files and which of them are about the same.

    names: a hash of each distinct prompt, in order of first appearance. rows: for each file, the number of
    each row's prompt among them, shape (rows,). similar: pairs of them, shape (pairs, 2). parts: for each file,
    what its votes may have in common with others.
    """

    names: list[str]
    rows: dict[str, Ints]
    similar: Ints
    parts: dict[str, Parts]

    def groups(self, file: str) -> list[str]:
        """The group of each row. A group is named after its prompt that appeared first.

        Only links within the file count, so other files move none of its groups; appending rows moves one
        only where a new prompt links two groups.
        """
        inside = np.zeros(len(self.names), dtype=bool)
        inside[self.rows[file]] = True
        similar = self.similar[inside[self.similar].all(axis=1)]
        first = _firsts(len(self.names), similar, Parts.links([self.parts[file]]))
        return [self.names[n] for n in first[self.rows[file]].tolist()]

    def group_sizes(self) -> Ints:
        """How many rows of all files each group has, taken over all of them together."""
        sizes = np.bincount(self.first_of_group[np.concatenate(list(self.rows.values()))])
        return sizes[sizes > 0]

    def also_in(self, file: str, other: str) -> NDArray[np.bool_]:
        """For each row of a file, whether the group of its prompt, over all files, has a prompt in the other."""
        return np.isin(self.first_of_group[self.rows[file]], self.first_of_group[self.rows[other]])

    @cached_property
    def first_of_group(self) -> Ints:
        """For each prompt the first of its group, over all files."""
        return _firsts(len(self.names), self.similar, Parts.links(self.parts.values()))


def read(files: Mapping[str, Path]) -> Prompts:
    """Compare the votes of Parquet files (data.votes.SCHEMA) with each other."""
    columns = ["prompt", "response_a", "response_b"]
    return compare_votes({name: batches(path, columns) for name, path in files.items()})


def compare_votes(files: Mapping[str, Iterable[pa.RecordBatch]]) -> Prompts:
    """Compare the prompts and answers of votes (data.votes.SCHEMA) by the name of where they come from."""
    return _compare({name: chain.from_iterable(map(_texts, votes)) for name, votes in files.items()})


def compare(prompts: Mapping[str, Iterable[Turns]]) -> Prompts:
    """Compare prompts without answers by the name of where they come from."""
    return _compare({name: ((prompt, None) for prompt in source) for name, source in prompts.items()})


def prompt_numbers(votes: pa.Table) -> Ints:
    """A number (n,) for each vote's group, the same for votes on nearly the same prompt."""
    prompts = compare_votes({"votes": votes.to_batches()})
    return np.unique(prompts.groups("votes"), return_inverse=True)[1].astype(np.int64)


def questions(batch: pa.RecordBatch) -> Iterator[Turns]:
    """What each vote of a batch is about: its prompt, or where that is blank its answers, in either order."""
    for n, prompt in enumerate(batch["prompt"].to_pylist()):
        if any(turn and not turn.isspace() for turn in prompt):
            yield prompt
        else:
            a, b = (batch[name][n].as_py() for name in ("response_a", "response_b"))
            yield ["\n".join(turn or "" for turn in min(a, b, key=repr) + max(a, b, key=repr))]


def _texts(batch: pa.RecordBatch) -> Iterator[tuple[Turns, Answers]]:
    answers = zip(batch["response_a"].to_pylist(), batch["response_b"].to_pylist(), strict=True)
    return zip(questions(batch), answers, strict=True)


def _compare(files: Mapping[str, Iterable[tuple[Turns, Answers | None]]]) -> Prompts:
    number: dict[str, int] = {}
    texts: list[str] = []
    rows: dict[str, Ints] = {}
    parts: dict[str, Parts] = {}
    for name, votes in files.items():
        found, parts[name] = array("q"), Parts()
        for prompt, answers in votes:
            said = [sentences(turn) for turn in prompt]
            text = " ".join(chain.from_iterable(said)) or normalise(prompt)
            digest = blake2b(text.encode("utf-8", "replace"), digest_size=10).hexdigest()
            found.append(number.setdefault(digest, len(texts)))
            if found[-1] == len(texts):
                texts.append(text[: minhash.LONGEST])
            parts[name].add(found[-1], said, answers)
        rows[name] = np.array(found, dtype=np.int64)
    return Prompts(
        list(number), rows, np.concatenate([_similar(texts), typos.one_letter_apart(texts)]), parts
    )


def _similar(texts: Sequence[str]) -> Ints:
    """Pairs of similar texts, without short ones of other numbers: 2+12 is not 2+1."""
    pairs = minhash.similar_pairs(texts, minhash.sketches(texts), THRESHOLD)
    alike = [
        max(len(texts[a]), len(texts[b])) > typos.LONGEST or _digits(texts[a]) == _digits(texts[b])
        for a, b in pairs.tolist()
    ]
    same: Ints = pairs[np.array(alike, dtype=bool)]
    return same


def _digits(text: str) -> str:
    return "".join(filter(str.isdigit, text))


def _firsts(count: int, *links: Ints) -> Ints:
    """For each of `count` nodes, the lowest number in its connected component."""
    from_, to = np.concatenate(links).T
    graph = coo_array((np.ones(len(to), bool), (from_, to)), shape=(count, count))
    component = connected_components(graph, directed=False)[1]
    first: Ints = np.unique(component, return_index=True)[1][component]
    return first
