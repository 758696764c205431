"""Judging of comparisons for `tiebreak compare`, in pieces, so that a stopped command goes on where it was.

What the judge says is kept beside the output, in OUT.pairs.parquet. A budget for the leaders is judged in two parts, of which the first,
spread evenly, is in OUT.first.parquet until the second is.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from tiebreak import __version__
from tiebreak.commands import pieces
from tiebreak.commands.pieces import Compute, Files
from tiebreak.engine.workspace import content_fingerprint
from tiebreak.hashes import file_digest
from tiebreak.votes.formats import containers
from tiebreak.votes.formats.model_outputs import Comparison, Outputs, read_outputs
from tiebreak.votes.formats.vote import digest
from tiebreak.votes.schema import probability_columns

if TYPE_CHECKING:
    from tiebreak.commands.compare import Request
    from tiebreak.comparison.judged import Judged

PAIRS = ".pairs.parquet"
"""The ending of the file with what the judge said, after the output's name."""
FIRST = ".first.parquet"
"""That of the even part of a budget for the leaders."""
_MADE_FROM = b"tiebreak made from"


def judge(
    request: "Request", votes: pa.Table | None, place: Path, stop: Callable[[], bool]
) -> "tuple[Judging, Judged]":
    """Judge the comparisons of a request. place: the beginning of the names of the files in which what is said is kept.

    Raises TiebreakError for what cannot be read or written; Interrupted, with what is done on disk, once `stop` returns True.
    """
    from tiebreak.comparison.judged import Judged

    work = Judging(request, votes)
    if request.leaders:
        work = Judging(request, votes, work, _even_part(work, place, stop))
    pieces.run(work, Files(request.outputs, Path(f"{place}{PAIRS}")), stop)
    Path(f"{place}{FIRST}").unlink(missing_ok=True)
    return work, Judged(pq.read_table(f"{place}{PAIRS}"), tuple(work.outputs.models))


def _even_part(work: "Judging", place: Path, stop: Callable[[], bool]) -> "Judged":
    """What the judge says of the even part of a budget, as it was kept if that was done before."""
    from tiebreak.comparison.judged import Judged

    kept = Path(f"{place}{FIRST}")
    if not kept.is_file() or (pq.read_schema(kept).metadata or {}).get(_MADE_FROM) != work.made_from():
        pieces.run(work, Files(work.files, kept), stop)
    return Judged(pq.read_table(kept), tuple(work.outputs.models))


class Judging(pieces.Work[Comparison]):
    """The judge's probabilities of comparisons. votes: those voted on come first where not all are judged.

    even, made: the even part of a budget for the leaders, and what the judge said of it, where these are the rest.
    """

    name = "compare"

    def __init__(
        self,
        request: "Request",
        votes: pa.Table | None,
        even: "Judging | None" = None,
        made: "Judged | None" = None,
    ) -> None:
        self._request, self._votes, self._even, self._made = request, votes, even, made

    @property
    def files(self) -> Sequence[Path]:
        return self._request.outputs

    @cached_property
    def outputs(self) -> Outputs:
        from tiebreak.comparison.api import column_of

        if self._even is not None:
            return self._even.outputs
        request = self._request
        files = containers.expand(request.outputs)
        return read_outputs(files, request.mapping, column_of(request.by), bool(request.votes))

    @cached_property
    def _comparisons(self) -> list[Comparison]:
        from tiebreak.comparison.api import first_part, to_judge, to_judge_next

        request = self._request
        if self._made is not None and request.budget is not None:
            return to_judge_next(self.outputs, request.baseline, self._made, request.budget, self._votes)
        first = first_part(request.budget, request.leaders)
        return to_judge(self.outputs, request.baseline, first, self._votes)

    @property
    def judged(self) -> list[Comparison]:
        """The comparisons in the order of the rows."""
        return (self._even.judged if self._even else []) + self._comparisons

    def made_from(self) -> bytes:
        """A hash of what the result depends on."""
        inputs = [content_fingerprint(path) for path in containers.expand(self.files)]
        return digest(json.dumps([self.depends_on(), inputs, __version__], default=str)).encode()

    def depends_on(self) -> dict[str, Any]:
        from tiebreak.comparison.api import voted
        from tiebreak.judge import package

        request = self._request
        return {
            "the model": file_digest(request.model / package.NAME),
            "the baseline": request.baseline,
            "the budget": [
                request.budget,
                request.leaders,
                sorted(voted(self.outputs, self._votes)) if request.budget is not None else [],
            ],
            "the column": list(request.by),
            "the mapping": request.mapping.as_rows(),
            "the precision": request.precision,
        }

    def items(self, files: Iterable[Path]) -> Iterator[Comparison]:
        return iter(self._comparisons)

    def count(self, files: Sequence[Path]) -> int | None:
        return len(self._comparisons)

    def load(self, number: int) -> Compute[Comparison]:
        from tiebreak.judge.judge import load_judge
        from tiebreak.votes.formats.readers import record_batch

        request = self._request
        judge = load_judge(request.model, request.device, request.score_tokens, request.precision)

        def compute(piece: Sequence[Comparison], report: Callable[[float], None]) -> pa.Table:
            table = pa.Table.from_batches([record_batch([one.vote for one in piece])])
            p_NC = judge.predict_table(
                table, both=True, report=lambda _, done, total, __: report(done / total)
            )
            return pa.table(probability_columns(p_NC))

        return compute

    def rows(
        self, pieces: Iterable[tuple[Sequence[Comparison], Sequence[pa.Table]]], errors: bool
    ) -> Iterator[dict[str, Any]]:
        from tiebreak.comparison.judged import facts

        if self._made is not None:
            yield from self._made.table.to_pylist()
        for piece, (table,) in pieces:
            for one, p in zip(piece, table.to_pylist(), strict=True):
                yield facts(one) | p

    def types(self, files: Sequence[Path]) -> pa.Schema | None:
        from tiebreak.comparison.judged import SCHEMA

        is_part = self._request.leaders and self._made is None
        return SCHEMA.with_metadata({_MADE_FROM: self.made_from()}) if is_part else SCHEMA
