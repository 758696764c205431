"""Preference data made by the judge, as by `tiebreak label`: of pairs, or of prompts with several responses.

Chosen is the response that the judge prefers. Of several responses it is the best, and rejected are the worst, the next
worst and so on, with the probabilities of the fitted strengths. A pair is a tie, and dropped unless ties are kept, where
a tie is the most probable answer; one without a preferred response always is.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa

from tiebreak import __version__
from tiebreak.commands import pieces
from tiebreak.commands.pieces import STANDARD, Compute, Files, Outcome
from tiebreak.commands.predict import judged
from tiebreak.commands.preference_formats import FORMATS, Preference
from tiebreak.commands.rank import Judging, pairs_of
from tiebreak.errors import TiebreakError
from tiebreak.output import new_file, write_atomically
from tiebreak.votes.formats.candidates import Candidates, CandidatesFile, is_candidates
from tiebreak.votes.formats.mapping import ColumnMap
from tiebreak.votes.formats.pairs import Pair, PairFile
from tiebreak.votes.formats.record_formats import COMPLETIONS, detect_format

if TYPE_CHECKING:
    from tiebreak.judge.ranking import Ranking
    from tiebreak.stats.metrics import Array

SUFFIXES = (".jsonl", ".parquet")
_PICK = pa.struct(
    [
        ("chosen", pa.int64()),
        ("rejected", pa.int64()),
        ("p", pa.list_(pa.float64())),
        ("scores", pa.list_(pa.float64())),
    ]
)
"""The indices of both responses, P(chosen), P(rejected), P(tie), and the scores of both."""
_LEAST = 1e-6
"""What a probability counts as at least, where its logarithm is taken."""

Item = Pair | Candidates
Fate = Literal["kept", "tie", "below", "not judged", "single", "missing"]


@dataclass(frozen=True)
class Rules:
    """Which pairs are kept, and as what.

    min_margin: the least P(chosen) - P(rejected). pairs_per_prompt: of several responses, how many pairs with the best.
    """

    format: str = "trl"
    min_margin: float = 0.0
    keep_ties: bool = False
    pairs_per_prompt: int = 1

    def fate(self, p_C: Sequence[float]) -> Fate:
        """What becomes of a pair with P(chosen), P(rejected), P(tie)."""
        chosen, rejected, tie = p_C
        if chosen <= rejected or (tie > chosen and not self.keep_ties):
            return "tie"
        return "kept" if chosen - rejected >= self.min_margin else "below"


@dataclass
class Labelled(Outcome):
    """The outcome, and the number of pairs that were kept, ties, below the margin, and of rows not judged, with a single
    response, or with texts missing of which a pair would be made.
    """

    counts: dict[Fate, int] = field(default_factory=dict)


def label(files: Files, judging: Judging, rules: Rules, stop: Callable[[], bool] = lambda: False) -> Labelled:
    """Write preference data of every row of some files.

    Raises TiebreakError for an output that cannot be written, a folder that is no model, files that cannot be read, and
    other inputs than those that an unfinished output has begun with; Interrupted, with what is done on disk, once `stop`
    returns True.
    """
    check(files, judging)
    work = _Labels(judging, rules)
    outcome = pieces.run(work, files, stop)
    return Labelled(**vars(outcome), counts=dict(work.counts))


def check(files: Files, judging: Judging) -> None:
    """Raise TiebreakError for an output that cannot be written, a folder that is no model and inputs that are missing."""
    if files.output == STANDARD:
        raise TiebreakError(
            "labels go into a file, beside what says which model made them; name one with --output"
        )
    files.check(suffixes=SUFFIXES)
    if files.output.suffix != ".parquet":
        beside = provenance_of(files.output)
        new_file(beside, (beside.suffix,), files.inputs)
    judging.depends_on()
    files.require_inputs()


class _Labels(pieces.Work[Item]):
    """`counts`: the fates of the pairs, of the last time that all rows were made."""

    name = "label"

    def __init__(self, judging: Judging, rules: Rules) -> None:
        self._judging, self._rules = judging, rules
        self._conversational = False
        self.counts: Counter[Fate] = Counter()

    def depends_on(self) -> dict[str, Any]:
        return self._judging.depends_on() | {"the pairs per prompt": self._rules.pairs_per_prompt}

    def items(self, files: Iterable[Path]) -> Iterator[Item]:
        for path in files:
            item: Item
            for item in _open(path, self._judging.mapping):
                self._conversational |= len(_prompt(item)) > 1
                yield item

    def pairs(self, item: Item) -> int:
        return 1 if isinstance(item, Pair) else pairs_of(item, self._judging)

    def load(self, number: int) -> Compute[Item]:
        judge = self._judging.load()

        def compute(piece: Sequence[Item], report: Callable[[float], None]) -> pa.Table:
            candidates = [item for item in piece if isinstance(item, Candidates)]
            rankings = iter(self._judging.rank(judge, candidates, report))
            of_pairs = [item for item in piece if isinstance(item, Pair)]
            probabilities = iter(judged(judge, of_pairs, report))
            picks = [
                _of_pair(item, next(probabilities))
                if isinstance(item, Pair)
                else _of_ranking(item, next(rankings), self._rules.pairs_per_prompt)
                for item in piece
            ]
            return pa.table({"picks": pa.array(picks, pa.list_(_PICK))})

        return compute

    def rows(
        self, pieces: Iterable[tuple[Sequence[Item], Sequence[pa.Table]]], errors: bool
    ) -> Iterator[dict[str, Any]]:
        self.counts.clear()
        as_rows = FORMATS[self._rules.format]
        for piece, (table,) in pieces:
            for item, picks in zip(piece, table["picks"].to_pylist(), strict=True):
                if not picks:
                    self.counts[_unpaired(item)] += 1
                for pick in picks:
                    fate = self._rules.fate(pick["p"])
                    self.counts[fate] += 1
                    if fate == "kept":
                        yield from as_rows(_preference(item, pick), self._conversational)

    def types(self, files: Sequence[Path]) -> pa.Schema | None:
        return pa.schema([], metadata={"tiebreak": json.dumps(self._provenance())})

    def finish(self, output: Path) -> None:
        if output.suffix != ".parquet":
            write_atomically(provenance_of(output), json.dumps(self._provenance(), indent=2) + "\n")

    def _provenance(self) -> dict[str, Any]:
        """Which model and which version of tiebreak made the labels, and by which rules."""
        judging = self._judging.depends_on()
        made = {"version": __version__, "model": judging["the model"], "pairs": self._judging.pairs}
        return made | dict(self._judging.origin) | asdict(self._rules)


def provenance_of(output: Path) -> Path:
    """The file beside JSON Lines that says what made them; Parquet has it in its metadata."""
    return output.with_name(f"{output.name}.provenance")


def _open(path: Path, mapping: ColumnMap) -> PairFile | CandidatesFile:
    """A file of pairs, or of candidates. Raises TiebreakError for one that is neither."""
    rows, enough = pieces.records(path), pieces.enough(path)
    sample = list(islice(rows, enough))
    records = [record for _, record in sample if isinstance(record, dict)]
    found = detect_format(records, labelled=False, mapping=mapping)
    of_candidates = (found is None or found[0] is COMPLETIONS) and any(
        is_candidates(record, mapping) for record in records
    )
    return (CandidatesFile if of_candidates else PairFile)(path, chain(sample, rows), enough, mapping)


def _prompt(item: Item) -> Sequence[str | None]:
    if isinstance(item, Candidates):
        return item.prompt
    return item.vote.prompt if item.vote else []


def _unpaired(item: Item) -> Fate:
    """Why no pair comes of an item."""
    if item.error is not None:
        return "not judged"
    return "single" if isinstance(item, Candidates) and len(item.responses) == 1 else "missing"


def _of_pair(pair: Pair, p_C: "Array") -> list[dict[str, Any]]:
    """The preference in a pair, as the answers were shown; none where there is no pair, or a text of it is missing."""
    if pair.vote is None or not all(map(all, pair.vote[1:4])):
        return []
    chosen, rejected = (0, 1) if p_C[0] >= p_C[1] else (1, 0)
    half = np.log(max(p_C[chosen], _LEAST) / max(p_C[rejected], _LEAST)) / 2
    p = [p_C[chosen], p_C[rejected], p_C[2]]
    return [{"chosen": chosen, "rejected": rejected, "p": p, "scores": [half, -half]}]


def _of_ranking(item: Candidates, ranking: "Ranking | None", count: int) -> list[dict[str, Any]]:
    """The best response with the worst, the next worst and so on, of those without a missing text."""
    whole = [n for n in ranking.order if all(item.responses[n])] if ranking and all(item.prompt) else []
    if ranking is None or not whole:
        return []
    best, *others = whole
    return [
        {
            "chosen": best,
            "rejected": other,
            "p": ranking.probabilities(best, other),
            "scores": ranking.scores[[best, other]],
        }
        for other in others[::-1][:count]
    ]


def _preference(item: Item, pick: dict[str, Any]) -> Preference:
    if isinstance(item, Candidates):
        prompt, responses = item.prompt, item.responses
    else:
        assert item.vote is not None
        prompt, responses = item.vote.prompt, [item.vote.response_a, item.vote.response_b]
    return Preference(prompt, responses[pick["chosen"]], responses[pick["rejected"]], *pick["scores"])
