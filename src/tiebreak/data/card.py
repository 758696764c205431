"""The data card: what a set of votes holds and what is wrong with it, before anything is trained on it.

Dimension letters: N votes, C classes (a, b, tie), P pairs of models.
"""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import permutations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tiebreak.data import enough, groups, rates, readers, sources
from tiebreak.data.clustered import Share, share
from tiebreak.data.facts import Facts, token_counts
from tiebreak.data.rates import Disagreement, LengthBin
from tiebreak.data.scripts import SCRIPTS
from tiebreak.data.standings import Standings, standings
from tiebreak.data.truncation import keep_lengths
from tiebreak.data.votes import LABELS
from tiebreak.recipe import Prompt, Role

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

FRAME_TOKENS = 30
"""About what the published template takes; only for saying what a budget cuts."""

_QUANTILES = {"median": 0.5, "p90": 0.9, "p99": 0.99, "max": 1.0}


@dataclass(frozen=True)
class File:
    """One file and what became of its records.

    name: as it is called all over the card. labels: the votes of each label, where a soft label counts in parts.
    """

    role: str
    name: str
    records: int
    votes: int
    labels: dict[str, float]
    rejects: dict[str, int]
    distinct_prompts: int


@dataclass(frozen=True)
class Budget:
    """What a token budget for a row cuts: rows that are cut, tokens that go."""

    max_tokens: int
    rows_cut: float
    tokens_cut: float


@dataclass(frozen=True)
class Card:
    """Everything `tiebreak check` says about data.

    labels: shares of all votes. voted_groups: the groups of prompts that files of votes have. a_wins, longer_wins, length_bins and standings take the votes on one pair of
    answers as one. Intervals take the votes on one group of prompts together.
    """

    files: list[File]
    votes: int
    labelled: int
    labels: dict[str, Share]
    a_wins: Share
    longer_wins: Share
    length_bins: list[LengthBin]
    tokens: dict[str, dict[str, int]]
    tokens_are_estimated: bool
    budgets: list[Budget]
    multi_turn: float
    scripts: dict[str, float]
    missing_answers: int
    identical_answers: int
    standings: Standings
    duplicates: int
    groups: int
    largest_group: int
    voted_groups: int
    disagreement: Disagreement
    overlaps: list[tuple[str, str, int]]

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON; what is unknown is None."""
        plain: dict[str, Any] = _without_nan(asdict(self))
        return plain


def check(
    files: Mapping[Role, Sequence[Path]],
    tokenizer: "PreTrainedTokenizerBase | None" = None,
    budgets: Sequence[int] = (1024, 2000),
    prompt: Prompt | None = None,
) -> Card:
    """Read files by their role and describe them. `{"votes": [path, ...]}` is enough.

    Without a tokenizer, tokens are estimated at four bytes each. Files are told apart in overlaps by their
    names. Raises TiebreakError where data.readers does, and if there are no votes at all.
    """
    reading = _Reading(tokenizer)
    order = _named([(role, path) for role, paths in files.items() for path in sources.expand(paths)])
    prompts = groups.compare_votes({name: reading.votes(name, *source) for name, source in order.items()})
    if not reading.facts:
        raise readers.no_votes(order, rejects_of(reading.files.values()))
    facts = Facts.joined(reading.facts)
    labelled_N: Any = np.isfinite(facts.p).all(axis=1)
    labelled, group_N = facts.only(labelled_N), _groups(prompts)[labelled_N]
    sizes = prompts.group_sizes()
    return Card(
        files=[_with_prompts(reading.files[name], prompts) for name in prompts.rows],
        votes=len(facts),
        labelled=len(labelled),
        multi_turn=float((facts.turns > 1).mean()),
        scripts=_scripts(facts.script),
        missing_answers=int(facts.missing.sum()),
        identical_answers=int(facts.identical.sum()),
        duplicates=len(facts) - len(np.unique(facts.pair)),
        overlaps=_overlaps(prompts),
        groups=len(sizes),
        largest_group=int(sizes.max()),
        voted_groups=_voted_groups(prompts, [name for name, (role, _) in order.items() if role == "votes"]),
        tokens=_quantiles(facts.tokens),
        tokens_are_estimated=tokenizer is None,
        budgets=[_budget(facts.tokens, tokens, prompt or Prompt()) for tokens in budgets],
        standings=_standings(labelled, group_N, list(reading.models)),
        **_about_labels(labelled, group_N),
    )


class _Reading:
    """One pass over files: yields the votes, keeps the facts."""

    def __init__(self, tokenizer: "PreTrainedTokenizerBase | None") -> None:
        self.tokenizer = tokenizer
        self.facts: list[Facts] = []
        self.models: dict[str, int] = {}
        self.files: dict[str, File] = {}

    def votes(self, name: str, role: Role, path: Path) -> Iterator[pa.RecordBatch]:
        records = votes = 0
        known = len(self.facts)
        kinds: Counter[str] = Counter()
        for batch in readers.read([path], role):
            records += batch.records
            votes += batch.votes.num_rows
            kinds.update(readers.kind(reason) for _, _, reason in batch.rejects)
            if batch.votes.num_rows:
                tokens = token_counts(batch.votes, self.tokenizer)
                self.facts.append(Facts.of(batch.votes, tokens, self.models))
            yield batch.votes
        labels = enough.label_sums(facts.p for facts in self.facts[known:])
        self.files[name] = File(role, name, records, votes, labels, dict(kinds.most_common()), 0)


def labels_of(card: Card) -> dict[str, float]:
    """The votes of each label in files of votes, which a judge learns from."""
    files = [file for file in card.files if file.role == "votes"]
    return {label: sum(file.labels[label] for file in files) for label in LABELS}


def rejects_of(files: Iterable[File]) -> Counter[str]:
    """The rejects of files together, by kind."""
    return sum((Counter(file.rejects) for file in files), Counter[str]())


def _named(order: list[tuple[Role, Path]]) -> dict[str, tuple[Role, Path]]:
    """Files by their names, or where two have the same by their paths and roles."""
    times = Counter(path.name for _, path in order)
    return {path.name if times[path.name] == 1 else f"{path} ({role})": (role, path) for role, path in order}


def _without_nan(value: Any) -> Any:
    """The value with every NaN, which JSON has not, replaced by None."""
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def _with_prompts(file: File, prompts: groups.Prompts) -> File:
    return replace(file, distinct_prompts=len(np.unique(prompts.rows[file.name])))


def _scripts(script_N: NDArray[np.int64]) -> dict[str, float]:
    shares = np.bincount(script_N, minlength=len(SCRIPTS)) / len(script_N)
    found = [(name, float(part)) for name, part in zip(SCRIPTS, shares, strict=True) if part]
    return dict(sorted(found, key=lambda pair: -pair[1]))


def _overlaps(prompts: groups.Prompts) -> list[tuple[str, str, int]]:
    """For each two files, how many rows of the first have a prompt whose group is in the second."""
    pairs = permutations(prompts.rows, 2)
    counts = [(one, other, int(prompts.also_in(one, other).sum())) for one, other in pairs]
    return [found for found in counts if found[2]]


def _voted_groups(prompts: groups.Prompts, files: Sequence[str]) -> int:
    rows = [prompts.first_of_group[prompts.rows[file]] for file in files]
    return len(np.unique(np.concatenate(rows))) if rows else 0


def _quantiles(tokens_N3: NDArray[np.int64]) -> dict[str, dict[str, int]]:
    a_N, b_N = tokens_N3[:, 1], tokens_N3[:, 2]
    texts = {
        "prompt": tokens_N3[:, 0],
        "answer": np.concatenate([a_N, b_N]),
        "row": tokens_N3.sum(axis=1) + FRAME_TOKENS,
    }
    return {
        text: {name: int(np.quantile(tokens, q)) for name, q in _QUANTILES.items()}
        for text, tokens in texts.items()
    }


def _budget(tokens_N3: NDArray[np.int64], max_tokens: int, prompt: Prompt) -> Budget:
    room = max_tokens - FRAME_TOKENS
    long_N3 = tokens_N3[tokens_N3.sum(axis=1) > room]
    kept = sum(sum(keep_lengths(q, a, b, room, prompt.prompt_tokens)) for q, a, b in long_N3.tolist())
    gone = int(long_N3.sum()) - kept
    return Budget(max_tokens, len(long_N3) / len(tokens_N3), gone / max(int(tokens_N3.sum()), 1))


def _groups(prompts: groups.Prompts) -> NDArray[np.int64]:
    """The number of each row's group, over all files and in their order."""
    first = prompts.first_of_group[np.concatenate(list(prompts.rows.values()))]
    return np.unique(first, return_inverse=True)[1]


def _about_labels(facts: Facts, group_N: NDArray[np.int64]) -> dict[str, Any]:
    p_NC, lengths = facts.p.astype(np.float64), facts.tokens[:, 1:]
    weight_N = rates.pair_weights(facts.pair)
    return {
        "labels": {
            label: share(p_N, np.ones(len(p_N)), group_N) for label, p_N in zip(LABELS, p_NC.T, strict=True)
        },
        "a_wins": rates.a_wins(p_NC, weight_N, group_N),
        "longer_wins": rates.longer_wins(p_NC, lengths, weight_N, group_N),
        "length_bins": rates.length_bins(p_NC, lengths, weight_N, group_N),
        "disagreement": rates.disagreement(facts.pair, facts.turned, p_NC, group_N),
    }


def _standings(facts: Facts, group_N: NDArray[np.int64], names: list[str]) -> Standings:
    known_N: NDArray[np.bool_] = (facts.models >= 0).all(axis=1) & (facts.models[:, 0] != facts.models[:, 1])
    if not known_N.any():
        return Standings([])
    known = facts.only(known_N)
    weight_N = rates.pair_weights(known.pair)
    return standings(known.p.astype(np.float64), known.models, weight_N, group_N[known_N], names)
