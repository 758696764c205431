"""The unvoted pairs to vote on next, as by `tiebreak next`: a part of the rows of some files, the next one first.

The output has the rows with all their columns and ADDED behind them; nothing in it says which answer the judge prefers.
Dimension letters: N pairs of a piece, M predictions of each, C classes (a, b, tie).
"""

import heapq
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from tiebreak.commands import pieces
from tiebreak.commands.output_rows import ERROR, own_columns, own_types
from tiebreak.commands.pieces import STANDARD, Compute, Files, Outcome
from tiebreak.engine.workspace import content_fingerprint
from tiebreak.errors import TiebreakError
from tiebreak.hashes import file_digest
from tiebreak.stats.acquisition import disagreement, priority
from tiebreak.stats.metrics import Array
from tiebreak.votes.formats.mapping import NO_MAP, ColumnMap
from tiebreak.votes.formats.pairs import Pair, PairFile
from tiebreak.votes.formats.readers import read_whole, record_batch
from tiebreak.votes.formats.vote import Vote, unordered_id

DISAGREEMENT = "disagreement"
ADDED = (DISAGREEMENT,)
_MEMBERS = "members"


@dataclass(frozen=True)
class Choice:
    """Which pairs to choose: by which models, `count` of them or all, without those that files of votes hold.

    seed: of the draw. mapping: of the columns of the pairs.
    """

    models: Sequence[Path]
    count: int | None = None
    votes: Sequence[Path] = ()
    seed: int = 0
    device: str | None = None
    precision: str = "auto"
    mapping: ColumnMap = NO_MAP


@dataclass
class Chosen(Outcome):
    """The outcome, how many pairs were chosen, and how many were left out: voted, because they have a vote already; repeated,
    because an equal pair came before.
    """

    chosen: int = 0
    voted: int = 0
    repeated: int = 0


def next_pairs(files: Files, choice: Choice, stop: Callable[[], bool] = lambda: False) -> Chosen:
    """Choose the pairs of some files to vote on next.

    Raises TiebreakError for an output that cannot be written, a folder that is no model, files that cannot be read, and
    other inputs than those that an unfinished output has begun with; Interrupted, with what is done on disk, once `stop`
    returns True.
    """
    check(files, choice)
    work = _Next(choice)
    outcome = pieces.run(work, files, stop)
    return Chosen(**vars(outcome), chosen=work.chosen, voted=work.voted, repeated=work.repeated)


def check(files: Files, choice: Choice) -> None:
    """Raise TiebreakError for an output that cannot be written, a folder that is no model and inputs that are missing."""
    from tiebreak.judge import package

    files.check(choice.votes)
    if files.output == STANDARD:
        raise TiebreakError(
            "which pairs come first is known once all are judged; name a file with --output, not standard output"
        )
    for model in choice.models:
        package.read(model)
    files.require_inputs()


class _Next(pieces.Work[Pair]):
    """`chosen`, `voted` and `repeated`: of the rows that were made, the last time."""

    name = "next"
    last = ADDED

    def __init__(self, choice: Choice) -> None:
        self.passes = len(choice.models)
        self.chosen = self.voted = self.repeated = 0
        self._choice = choice
        tables = [read_whole(path, "votes") for path in choice.votes]
        self._voted = {
            unordered_id(*texts)
            for table in tables
            for texts in zip(*(table[name].to_pylist() for name in Vote._fields[1:4]), strict=True)
        }

    def depends_on(self) -> dict[str, Any]:
        from tiebreak.judge import package

        return {
            "the models": [file_digest(model / package.NAME) for model in self._choice.models],
            "the votes": [content_fingerprint(path) for path in self._choice.votes],
            "the mapping": self._choice.mapping.as_rows(),
            "the precision": self._choice.precision,
        }

    def items(self, files: Iterable[Path]) -> Iterator[Pair]:
        return chain.from_iterable(
            PairFile(path, pieces.records(path), pieces.enough(path), self._choice.mapping) for path in files
        )

    def load(self, number: int) -> Compute[Pair]:
        from tiebreak.judge.committee import predictions
        from tiebreak.judge.judge import load_judge

        judge = load_judge(self._choice.models[number], self._choice.device, precision=self._choice.precision)

        def compute(piece: Sequence[Pair], report: Callable[[float], None]) -> pa.Table:
            """The predictions of unvoted pairs; null where there are none, with the reason if the record is no pair."""
            votes = [pair.vote if self._is_open(pair.vote) else None for pair in piece]
            members: list[list[list[float]] | None] = [None] * len(piece)
            where = [n for n, vote in enumerate(votes) if vote is not None]
            if where:
                table = pa.Table.from_batches([record_batch([vote for vote in votes if vote is not None])])
                p_NMC = predictions(judge, table, lambda _, done, total, __: report(done / total))
                for n, p_MC in zip(where, p_NMC.tolist(), strict=True):
                    members[n] = p_MC
            kind = pa.list_(pa.list_(pa.float64()))
            return pa.table(
                {
                    _MEMBERS: pa.array(members, kind),
                    ERROR: pa.array([pair.error for pair in piece], pa.string()),
                }
            )

        return compute

    def _is_open(self, vote: Vote | None) -> bool:
        return vote is not None and unordered_id(*vote[1:4]) not in self._voted

    def rows(
        self, pieces: Iterable[tuple[Sequence[Pair], Sequence[pa.Table]]], errors: bool
    ) -> Iterator[dict[str, Any]]:
        """The chosen rows; `errors` are of rows that are no pairs, which are left out."""
        self.chosen = self.voted = self.repeated = 0
        open_rows = self._open_rows(pieces)
        count = self._choice.count
        by_priority = (
            sorted(open_rows, key=itemgetter(0), reverse=True)
            if count is None
            else heapq.nlargest(count, open_rows, key=itemgetter(0))
        )
        for _, row in by_priority:
            self.chosen += 1
            yield row

    def _open_rows(
        self, pieces: Iterable[tuple[Sequence[Pair], Sequence[pa.Table]]]
    ) -> Iterator[tuple[float, dict[str, Any]]]:
        """The rows of unvoted pairs, each pair once, with their priority."""
        random, known = np.random.default_rng(self._choice.seed), set(self._voted)
        for piece, tables in pieces:
            judged_N = tables[0][_MEMBERS].is_valid().to_numpy()
            self.voted += sum(pair.vote is not None for pair in piece) - int(judged_N.sum())
            pairs = [pair for pair, judged in zip(piece, judged_N, strict=True) if judged]
            if not pairs:
                continue
            p_NMC = np.concatenate([_members(table) for table in tables], axis=1)
            disagreement_N = disagreement(p_NMC)
            priority_N = priority(disagreement_N, random)
            for pair, of_pair, first in zip(pairs, disagreement_N.tolist(), priority_N.tolist(), strict=True):
                assert pair.vote is not None
                if (texts := unordered_id(*pair.vote[1:4])) in known:
                    self.repeated += 1
                    continue
                known.add(texts)
                yield first, own_columns(pair.record, ADDED) | {DISAGREEMENT: of_pair}

    def types(self, files: Sequence[Path]) -> pa.Schema | None:
        return own_types(files, ADDED)


def _members(table: pa.Table) -> Array:
    """The predictions (n, members, 3) of a model for the pairs of a piece that it judged."""
    return np.array(table[_MEMBERS].drop_null().to_pylist())
