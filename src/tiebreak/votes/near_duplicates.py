"""Groups of votes on near-duplicate prompts: the unit that folds and the lockbox never split.

Two prompts are linked if, normalised (votes.normalise), they are equal, or similar: a Jaccard index of at least
THRESHOLD of their 5-character shingles (votes.minhash), or short and one letter apart (votes.typos); and if their
votes have a part in common (votes.partial_matches): the first turns, the text after a system prompt, both answers, or
the session.
Groups are the connected components of these links, in folds as in the overlap of files. Where a prompt is blank the
answers are compared instead.
"""

from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from itertools import chain, repeat
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from tiebreak.votes import minhash, typos
from tiebreak.votes.formats.dialog import Turns
from tiebreak.votes.normalise import normalise, sentences
from tiebreak.votes.parquet import batches
from tiebreak.votes.partial_matches import Parts

THRESHOLD = 0.8

Answers = tuple[Turns, Turns]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Prompts:
    """The distinct prompts of several files and the links between near-duplicates.

    names: a hash of each distinct prompt, in order of first appearance. rows: for each file, the index of
    each row's prompt among them, shape (rows,). similar: pairs of these, shape (pairs, 2). parts: for each file,
    hashes of the parts of its votes.
    """

    names: list[str]
    rows: dict[str, Ints]
    similar: Ints
    parts: dict[str, Parts]

    def groups(self, file: str) -> list[str]:
        """The group of each row, named after the first of its prompts.

        Only links within the file count, so other files do not change its groups; appended rows change one
        only where a new prompt links two groups.
        """
        inside = np.zeros(len(self.names), dtype=bool)
        inside[self.rows[file]] = True
        similar = self.similar[inside[self.similar].all(axis=1)]
        first = _first_of_component(len(self.names), similar, Parts.links([self.parts[file]]))
        return [self.names[n] for n in first[self.rows[file]].tolist()]

    def group_sizes(self) -> Ints:
        """The number of rows in each group, over all files together."""
        sizes = np.bincount(self.group_of_prompt[np.concatenate(list(self.rows.values()))])
        return sizes[sizes > 0]

    def overlap_mask(self, file: str, other: str) -> NDArray[np.bool_]:
        """A mask of the rows of a file whose group, over all files, has a prompt in the other."""
        return np.isin(self.group_of_prompt[self.rows[file]], self.group_of_prompt[self.rows[other]])

    @cached_property
    def group_of_prompt(self) -> Ints:
        """The group of each prompt over all files, as the index of its first prompt."""
        return _first_of_component(len(self.names), self.similar, Parts.links(self.parts.values()))


def read(files: Mapping[str, Path]) -> Prompts:
    """Compare the votes of Parquet files (votes.schema.SCHEMA) with each other."""
    columns = ["prompt", "response_a", "response_b", "session"]
    return compare_votes({name: batches(path, columns) for name, path in files.items()})


def compare_votes(files: Mapping[str, Iterable[pa.RecordBatch]]) -> Prompts:
    """Compare the prompts and answers of votes (votes.schema.SCHEMA), given by the name of their source."""
    return _compare({name: chain.from_iterable(map(_texts, votes)) for name, votes in files.items()})


def compare(prompts: Mapping[str, Iterable[Turns]]) -> Prompts:
    """Compare prompts without answers, given by the name of their source."""
    return _compare({name: ((prompt, None, None) for prompt in source) for name, source in prompts.items()})


def prompt_groups(votes: pa.Table) -> Ints:
    """The group number of each vote (n,); votes on near-duplicate prompts share one."""
    prompts = compare_votes({"votes": votes.to_batches()})
    return np.unique(prompts.groups("votes"), return_inverse=True)[1].astype(np.int64)


def prompts_or_answers(batch: pa.RecordBatch) -> Iterator[Turns]:
    """The turns to compare of each vote in a batch: its prompt, or where that is blank its answers, in either order."""
    for n, prompt in enumerate(batch["prompt"].to_pylist()):
        if any(turn and not turn.isspace() for turn in prompt):
            yield prompt
        else:
            a, b = (batch[name][n].as_py() for name in ("response_a", "response_b"))
            yield ["\n".join(turn or "" for turn in min(a, b, key=repr) + max(a, b, key=repr))]


def _texts(batch: pa.RecordBatch) -> Iterator[tuple[Turns, Answers, str | None]]:
    answers = zip(batch["response_a"].to_pylist(), batch["response_b"].to_pylist(), strict=True)
    sessions = batch["session"].to_pylist() if "session" in batch.schema.names else repeat(None, len(batch))
    return zip(prompts_or_answers(batch), answers, sessions, strict=True)


def _compare(files: Mapping[str, Iterable[tuple[Turns, Answers | None, str | None]]]) -> Prompts:
    index_of: dict[str, int] = {}
    texts: list[str] = []
    rows: dict[str, Ints] = {}
    parts: dict[str, Parts] = {}
    for name, votes in files.items():
        indices, parts[name] = array("q"), Parts()
        for prompt, answers, session in votes:
            turns = [sentences(turn) for turn in prompt]
            text = " ".join(chain.from_iterable(turns)) or normalise(prompt)
            digest = blake2b(text.encode("utf-8", "replace"), digest_size=10).hexdigest()
            indices.append(index_of.setdefault(digest, len(texts)))
            if indices[-1] == len(texts):
                texts.append(text[: minhash.LONGEST])
            parts[name].add(indices[-1], turns, answers, session)
        rows[name] = np.array(indices, dtype=np.int64)
    return Prompts(
        list(index_of), rows, np.concatenate([_similar(texts), typos.one_letter_apart(texts)]), parts
    )


def _similar(texts: Sequence[str]) -> Ints:
    """Pairs of similar texts, except short ones whose digits differ: 2+12 is not 2+1."""
    pairs = minhash.similar_pairs(texts, minhash.sketches(texts), THRESHOLD)
    digits_agree = [
        max(len(texts[a]), len(texts[b])) > typos.LONGEST or _digits(texts[a]) == _digits(texts[b])
        for a, b in pairs.tolist()
    ]
    matches: Ints = pairs[np.array(digits_agree, dtype=bool)]
    return matches


def _digits(text: str) -> str:
    return "".join(filter(str.isdigit, text))


def _first_of_component(count: int, *links: Ints) -> Ints:
    """For each of `count` nodes, the lowest number in its connected component."""
    from_, to = np.concatenate(links).T
    graph = coo_array((np.ones(len(to), bool), (from_, to)), shape=(count, count))
    component = connected_components(graph, directed=False)[1]
    first: Ints = np.unique(component, return_index=True)[1][component]
    return first
