"""The data card: statistics and defects of a set of votes, before anything is trained on it.

Dimension letters: N votes, C classes (a, b, tie), P pairs of models.
"""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy import sparse

from tiebreak.data_card import label_statistics
from tiebreak.data_card.label_statistics import Disagreement, LengthBin
from tiebreak.data_card.standings import Standings, standings
from tiebreak.data_card.vote_features import VoteFeatures, estimated_token_counts, token_counts
from tiebreak.recipe.schema import Prompt
from tiebreak.recipe.values import Role
from tiebreak.stats.clustered import Share, share
from tiebreak.tokens.truncation import keep_lengths
from tiebreak.votes import near_duplicates, sample_size
from tiebreak.votes.formats import containers, readers
from tiebreak.votes.formats.mapping import NO_MAP, ColumnMap
from tiebreak.votes.schema import LABELS
from tiebreak.votes.scripts import SCRIPTS

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

FRAME_TOKENS = 30
"""The approximate length of the published template, for estimates of truncation."""

MOST_NAMED = 100
"""Files whose overlaps with each other are listed; of more, those of their roles."""

_QUANTILES = {"median": 0.5, "p90": 0.9, "p99": 0.99, "max": 1.0}


@dataclass(frozen=True)
class File:
    """One file with its counts of records, votes and rejects.

    name: the file's name throughout the card. labels: the votes of each label, where a soft label counts in parts.
    weightless: votes of the weight 0.
    not_read: columns that no vote is made of.
    """

    role: str
    name: str
    records: int
    votes: int
    labels: dict[str, float]
    rejects: dict[str, int]
    not_read: list[str]
    distinct_prompts: int
    weightless: int = 0


@dataclass(frozen=True)
class Budget:
    """The truncation under a token budget for a row: the shares of rows and of tokens that are cut.

    alike: votes whose answers differ only in what is cut; None without a tokenizer.
    """

    max_tokens: int
    rows_cut: float
    tokens_cut: float
    alike: int | None


@dataclass(frozen=True)
class Card:
    """The data card as `tiebreak check` prints it.

    labels: shares of all votes. voted_groups: groups of prompts in files of votes. a_wins, longer_wins, length_bins
    and standings count the votes on one pair of answers as one. Intervals are clustered by groups of prompts.
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

    def _repr_html_(self) -> str:
        """The card, for a notebook."""
        from tiebreak.data_card.view import fragment

        return fragment(self)

    def as_dict(self) -> dict[str, Any]:
        """The card as plain values for JSON, with None for unknown values."""
        plain: dict[str, Any] = _without_nan(asdict(self))
        return plain


def build_card(
    files: Mapping[Role, Sequence[Path]],
    tokenizer: "PreTrainedTokenizerBase | None" = None,
    budgets: Sequence[int] = (1024, 2000),
    prompt: Prompt | None = None,
    mapping: ColumnMap = NO_MAP,
) -> Card:
    """Build the data card of files by their role. `{"votes": [path, ...]}` is enough.

    Without a tokenizer, tokens are estimated at four bytes each. Overlaps name the files. Raises TiebreakError
    where votes.formats.readers does, for a mapped column that no file of votes has, and if there are no votes at all.
    """
    prompt = prompt or Prompt()
    readers.require_mapped(files.get("votes", ()), mapping)
    reader = _Reader(tokenizer, budgets, prompt, mapping)
    order = _unique_names(
        [(role, path) for role, paths in files.items() for path in containers.expand(paths)]
    )
    prompts = near_duplicates.compare_votes(
        {name: reader.votes(name, *source) for name, source in order.items()}
    )
    if not reader.features:
        raise readers.no_votes(order, total_rejects(reader.files.values()))
    features = VoteFeatures.concatenate(reader.features)
    labelled_N: Any = np.isfinite(features.p).all(axis=1)
    labelled, group_N = features.select(labelled_N), _groups(prompts)[labelled_N]
    sizes = prompts.group_sizes()
    return Card(
        files=[_with_prompts(reader.files[name], prompts) for name in prompts.rows],
        votes=len(features),
        labelled=len(labelled),
        multi_turn=float((features.turns > 1).mean()),
        scripts=_scripts(features.script),
        missing_answers=int(features.missing.sum()),
        identical_answers=int(features.identical.sum()),
        duplicates=len(features) - len(np.unique(features.pair)),
        overlaps=_overlaps(prompts, order),
        groups=len(sizes),
        largest_group=int(sizes.max()),
        voted_groups=_voted_groups(prompts, [name for name, (role, _) in order.items() if role == "votes"]),
        tokens=_quantiles(features.tokens),
        tokens_are_estimated=tokenizer is None,
        budgets=[_budget(features.tokens, tokens, prompt, reader.alike.get(tokens)) for tokens in budgets],
        standings=_standings(labelled, group_N, list(reader.models)),
        **_label_fields(labelled, group_N),
    )


class _Reader:
    """A single pass over files that yields the votes and collects their features."""

    def __init__(
        self,
        tokenizer: "PreTrainedTokenizerBase | None",
        budgets: Sequence[int],
        prompt: Prompt,
        mapping: ColumnMap,
    ) -> None:
        self.tokenizer, self.prompt, self.mapping = tokenizer, prompt, mapping
        self.alike = {} if tokenizer is None else dict.fromkeys(budgets, 0)
        self.features: list[VoteFeatures] = []
        self.models: dict[str, int] = {}
        self.files: dict[str, File] = {}

    def votes(self, name: str, role: Role, path: Path) -> Iterator[pa.RecordBatch]:
        records = votes = weightless = 0
        known = len(self.features)
        kinds: Counter[str] = Counter()
        for batch in readers.read([path], role, mapping=self.mapping):
            records += batch.records
            votes += batch.votes.num_rows
            weightless += readers.weightless(batch.votes, role)
            kinds.update(readers.kinds_of(batch.rejects))
            if batch.votes.num_rows:
                tokens = self._token_counts(batch.votes)
                self.features.append(VoteFeatures.from_batch(batch.votes, tokens, self.models))
            yield batch.votes
        labels = sample_size.label_sums(facts.p for facts in self.features[known:])
        not_read = readers.columns_not_read(path, role, self.mapping)
        rejects = dict(kinds.most_common())
        self.files[name] = File(role, name, records, votes, labels, rejects, not_read, 0, weightless)

    def _token_counts(self, batch: pa.RecordBatch) -> NDArray[np.int64]:
        """The token counts (n, 3) of a batch; adds its votes that are alike when cut."""
        if self.tokenizer is None:
            return estimated_token_counts(batch)
        from tiebreak.tokens.prompt import tokenize

        votes = tokenize(pa.Table.from_batches([batch]), self.tokenizer, self.prompt)
        for max_tokens in self.alike:
            self.alike[max_tokens] += votes.alike_when_cut(max_tokens)
        return token_counts(votes)


def labels_of(card: Card) -> dict[str, float]:
    """The votes of each label in files of votes, which a judge learns from."""
    files = [file for file in card.files if file.role == "votes"]
    return {label: sum(file.labels[label] for file in files) for label in LABELS}


def total_rejects(files: Iterable[File]) -> Counter[str]:
    """The number of rejects in all files, by kind."""
    return sum((Counter(file.rejects) for file in files), Counter[str]())


def _unique_names(order: list[tuple[Role, Path]]) -> dict[str, tuple[Role, Path]]:
    """Files by unique names: the file name, or where two have the same, path and role."""
    times = Counter(path.name for _, path in order)
    return {path.name if times[path.name] == 1 else f"{path} ({role})": (role, path) for role, path in order}


def _without_nan(value: Any) -> Any:
    """The value with every NaN, which JSON lacks, replaced by None."""
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def _with_prompts(file: File, prompts: near_duplicates.Prompts) -> File:
    return replace(file, distinct_prompts=len(np.unique(prompts.rows[file.name])))


def _scripts(script_N: NDArray[np.int64]) -> dict[str, float]:
    shares = np.bincount(script_N, minlength=len(SCRIPTS)) / len(script_N)
    found = [(name, float(part)) for name, part in zip(SCRIPTS, shares, strict=True) if part]
    return dict(sorted(found, key=lambda pair: -pair[1]))


def _overlaps(
    prompts: near_duplicates.Prompts, order: Mapping[str, tuple[Role, Path]]
) -> list[tuple[str, str, int]]:
    """The number of rows of a file whose group of prompts is in another file, for each two files that overlap.

    Of more than MOST_NAMED files, roles stand for their files: every two files would be too many to read.
    """
    names = {file: file if len(order) <= MOST_NAMED else role for file, (role, _) in order.items()}
    sources = list(dict.fromkeys(names.values()))
    source_N = np.concatenate(
        [np.full(len(rows), sources.index(names[file])) for file, rows in prompts.rows.items()]
    )
    group_N = _groups(prompts)
    rows_SG = sparse.coo_array((np.ones(len(group_N), np.int64), (source_N, group_N))).tocsr()
    shared_SS = (rows_SG @ (rows_SG > 0).T.astype(np.int64)).toarray()
    return [
        (one, other, n)
        for a, one in enumerate(sources)
        for b, other in enumerate(sources)
        if a != b and (n := int(shared_SS[a, b]))
    ]


def _voted_groups(prompts: near_duplicates.Prompts, files: Sequence[str]) -> int:
    rows = [prompts.group_of_prompt[prompts.rows[file]] for file in files]
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


def _budget(tokens_N3: NDArray[np.int64], max_tokens: int, prompt: Prompt, alike: int | None) -> Budget:
    room = max_tokens - FRAME_TOKENS
    truncated_N3 = tokens_N3[tokens_N3.sum(axis=1) > room]
    kept = sum(sum(keep_lengths(q, a, b, room, prompt.prompt_tokens)) for q, a, b in truncated_N3.tolist())
    removed = int(truncated_N3.sum()) - kept
    removed_share = removed / max(int(tokens_N3.sum()), 1)
    return Budget(max_tokens, len(truncated_N3) / len(tokens_N3), removed_share, alike)


def _groups(prompts: near_duplicates.Prompts) -> NDArray[np.int64]:
    """The group number of each row, over all files and in their order."""
    first = prompts.group_of_prompt[np.concatenate(list(prompts.rows.values()))]
    return np.unique(first, return_inverse=True)[1]


def _label_fields(features: VoteFeatures, group_N: NDArray[np.int64]) -> dict[str, Any]:
    p_NC, lengths = features.p.astype(np.float64), features.tokens[:, 1:]
    weight_N = label_statistics.pair_weights(features.pair)
    return {
        "labels": {
            label: share(p_N, np.ones(len(p_N)), group_N) for label, p_N in zip(LABELS, p_NC.T, strict=True)
        },
        "a_wins": label_statistics.a_wins(p_NC, weight_N, group_N),
        "longer_wins": label_statistics.longer_wins(p_NC, lengths, weight_N, group_N),
        "length_bins": label_statistics.length_bins(p_NC, lengths, weight_N, group_N),
        "disagreement": label_statistics.disagreement(features.pair, features.swapped, p_NC, group_N),
    }


def _standings(features: VoteFeatures, group_N: NDArray[np.int64], names: list[str]) -> Standings:
    named_N: NDArray[np.bool_] = (features.models >= 0).all(axis=1) & (
        features.models[:, 0] != features.models[:, 1]
    )
    if not named_N.any():
        return Standings([])
    named = features.select(named_N)
    weight_N = label_statistics.pair_weights(named.pair)
    return standings(named.p.astype(np.float64), named.models, weight_N, group_N[named_N], names)
