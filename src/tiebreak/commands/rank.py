"""Ranking of the responses to each prompt of some files, as by `tiebreak rank`.

The output has every row of the inputs with all its columns, in their order, and ADDED behind them.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from tiebreak.commands import pieces
from tiebreak.commands.output_rows import ERROR, own_columns, own_types
from tiebreak.commands.pieces import Compute, Files, Outcome
from tiebreak.hardware.allocator import keep_memory
from tiebreak.hashes import file_digest
from tiebreak.votes.formats.candidates import Candidates, CandidatesFile
from tiebreak.votes.formats.mapping import NO_MAP, ColumnMap
from tiebreak.votes.formats.readers import votes_table
from tiebreak.votes.formats.vote import Vote

if TYPE_CHECKING:
    from tiebreak.judge.judge import Judge
    from tiebreak.judge.ranking import Ranking

SCHEMA = pa.schema(
    {
        name: pa.list_(kind)
        for name, kind in (("ranking", pa.int64()), ("scores", pa.float64()), ("p_best", pa.float64()))
    }
)
"""The responses' indices, best first; a score and a probability of each response, in their own order."""
ADDED = (*SCHEMA.names, ERROR)
"""The columns that rankings have."""


@dataclass(frozen=True)
class Judging:
    """By which model responses are ranked. pairs: how many to judge of a prompt, the default if None. mapping: of the inputs'
    columns. origin: of a model of the hub, its name and commit.
    """

    model: Path
    pairs: int | None = None
    device: str | None = None
    precision: str = "auto"
    score_tokens: int = 16384
    mapping: ColumnMap = NO_MAP
    origin: Mapping[str, str] = field(default_factory=dict)

    def depends_on(self) -> dict[str, Any]:
        """What the rankings depend on. Raises TiebreakError for a folder that is no model."""
        from tiebreak.judge import package

        package.read(self.model)
        return {
            "the model": file_digest(self.model / package.NAME),
            "the pairs of a prompt": self.pairs,
            "the mapping": self.mapping.as_rows(),
            "the precision": self.precision,
        }

    def load(self) -> "Judge":
        from tiebreak.judge.judge import load_judge

        keep_memory()
        return load_judge(self.model, self.device, self.score_tokens, self.precision)

    def rank(
        self, judge: "Judge", piece: Sequence[Candidates], report: Callable[[float], None]
    ) -> "list[Ranking | None]":
        """The ranking of each, None where there is nothing to rank."""
        from tiebreak.judge.ranking import rank

        def predict(votes: Sequence[Vote], told: Callable[[float], None]) -> Any:
            return judge.predict_table(
                votes_table(votes), report=lambda _, done, total, __: told(done / total)
            )

        good = [found for found in piece if found.error is None]
        ranked = iter(rank(good, predict, self.pairs, report))
        return [next(ranked) if found.error is None else None for found in piece]


def rank(files: Files, judging: Judging, stop: Callable[[], bool] = lambda: False) -> Outcome:
    """Rank the responses of every row of some files.

    Raises TiebreakError for an output that cannot be written, a folder that is no model, files that cannot be read, and
    other inputs than those that an unfinished output has begun with; Interrupted, with what is done on disk, once `stop`
    returns True.
    """
    check(files, judging)
    return pieces.run(_Ranks(judging), files, stop)


def check(files: Files, judging: Judging) -> None:
    """Raise TiebreakError for an output that cannot be written, a folder that is no model and inputs that are missing."""
    files.check()
    judging.depends_on()
    files.require_inputs()


class _Ranks(pieces.Work[Candidates]):
    name = "rank"
    last = ADDED

    def __init__(self, judging: Judging) -> None:
        self._judging = judging

    def depends_on(self) -> dict[str, Any]:
        return self._judging.depends_on()

    def pairs(self, item: Candidates) -> int:
        return pairs_of(item, self._judging)

    def items(self, files: Iterable[Path]) -> Iterator[Candidates]:
        found = (
            CandidatesFile(path, pieces.records(path), pieces.enough(path), self._judging.mapping)
            for path in files
        )
        return chain.from_iterable(found)

    def load(self, number: int) -> Compute[Candidates]:
        judge = self._judging.load()

        def compute(piece: Sequence[Candidates], report: Callable[[float], None]) -> pa.Table:
            return _table(self._judging.rank(judge, piece, report))

        return compute

    def rows(
        self, pieces: Iterable[tuple[Sequence[Candidates], Sequence[pa.Table]]], errors: bool
    ) -> Iterator[dict[str, Any]]:
        for piece, (table,) in pieces:
            for item, added in zip(piece, table.to_pylist(), strict=True):
                error = {ERROR: item.error} if errors or item.error is not None else {}
                yield own_columns(item.record, ADDED) | added | error

    def types(self, files: Sequence[Path]) -> pa.Schema | None:
        return own_types(files, ADDED)


def pairs_of(item: Candidates, judging: Judging) -> int:
    """The pairs that are judged of a prompt, at most."""
    from tiebreak.stats.pair_schedule import budget_of

    return budget_of(len(item.responses), judging.pairs)


def _table(rankings: "Sequence[Ranking | None]") -> pa.Table:
    rows = [
        found and {"ranking": found.order, "scores": found.scores.tolist(), "p_best": found.p_best.tolist()}
        for found in rankings
    ]
    return pa.Table.from_pylist([row or dict.fromkeys(SCHEMA.names) for row in rows], schema=SCHEMA)
