"""Prediction of files of pairs, as by `tiebreak predict`.

The output has every row of the inputs with all its columns, in their order, and the probabilities behind them.
Dimension letters: N pairs of a piece, M models, C classes (a, b, tie).
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from tiebreak.commands import pieces
from tiebreak.commands.output_rows import ADDED, DECISION, ERROR, output_rows, own_types
from tiebreak.commands.pieces import STANDARD, Compute, Files, Outcome
from tiebreak.errors import TiebreakError
from tiebreak.hardware.allocator import keep_memory
from tiebreak.hashes import file_digest
from tiebreak.votes.formats.mapping import NO_MAP, ColumnMap
from tiebreak.votes.formats.pairs import Pair, PairFile
from tiebreak.votes.formats.readers import read_whole, votes_table
from tiebreak.votes.schema import LABELS, probabilities, probability_columns, swap_answers

if TYPE_CHECKING:
    from tiebreak.judge.judge import Judge
    from tiebreak.stats.metrics import Array


@dataclass(frozen=True)
class Request:
    """What to predict: by which models, weighted how, of which files.

    shard: (k, n), the k-th of every n pieces, counted from 0. kaggle: a submission's columns alone. strict: a row that
    cannot be judged is an error. mapping: of the inputs' columns.
    """

    models: Sequence[Path]
    inputs: Sequence[Path]
    output: Path
    weights: Sequence[float] | None = None
    fit: Path | None = None
    device: str | None = None
    precision: str = "auto"
    shard: tuple[int, int] = (0, 1)
    kaggle: bool = False
    strict: bool = False
    max_error: float | None = None
    score_tokens: int = 16384
    mapping: ColumnMap = NO_MAP

    @property
    def files(self) -> Files:
        return Files(self.inputs, self.output, self.shard, self.strict)


@dataclass
class Predicted(Outcome):
    """The outcome, the pairs that are decided, and the models' weights."""

    decided: int = 0
    weights: list[float] = field(default_factory=list)


def predict(request: Request, stop: Callable[[], bool] = lambda: False) -> Predicted:
    """Predict every pair of some files.

    Raises TiebreakError for an output that cannot be written, a folder that is no model, pairs that cannot be read, other
    inputs than those that an unfinished output has begun with, and what `Ensemble` refuses; Interrupted, with what is done
    on disk, once `stop` returns True.
    """
    from tiebreak.judge.ensemble import Ensemble

    files, threshold = check(request)
    ensemble = Ensemble(request.models, request.weights, request.device, precision=request.precision)
    if request.fit:
        ensemble.fit(read_whole(request.fit, "votes", request.mapping))
    weights = ensemble.weights_.tolist()
    work = _Prediction(request, weights, threshold)
    outcome = pieces.run(work, files, stop)
    return Predicted(**vars(outcome), decided=work.decided, weights=weights)


def check(request: Request) -> tuple[Files, float | None]:
    """What is read and written, and the certainty from which pairs are decided; None where no decision is asked for.

    Raises TiebreakError for an output that cannot be written, a folder that is no model, weights and decisions that are not to
    be had, and inputs that are missing.
    """
    from tiebreak.judge import package
    from tiebreak.stats.blend import shares

    request.files.check([request.fit] if request.fit else [])
    for model in request.models:
        package.read(model)
    shares(request.weights, len(request.models))
    threshold = _threshold(request)
    request.files.require_inputs()
    return request.files, threshold


def _threshold(request: Request) -> float | None:
    """The certainty from which pairs are decided; None where no decision is asked for."""
    from tiebreak.judge import decisions, package

    if request.max_error is None:
        return None
    if len(request.models) > 1 or request.kaggle:
        what = "a submission has no decisions" if request.kaggle else "a blend has no bound on its error"
        raise TiebreakError(f"--max-error takes one model and all columns: {what}")
    (model,) = request.models
    return decisions.certain_from(package.read(model), model, request.max_error)


class _Prediction(pieces.Work[Pair]):
    """`decided`: of the rows that were made, of a file the last time."""

    name = "predict"
    last = ADDED

    def __init__(self, request: Request, weights: Sequence[float], certain_from: float | None) -> None:
        self.passes = len(request.models)
        self._request, self._weights, self._certain_from = request, weights, certain_from
        self.decided = 0

    def depends_on(self) -> dict[str, Any]:
        from tiebreak.judge import package

        return {
            "the models": [file_digest(model / package.NAME) for model in self._request.models],
            "the weights": list(self._weights),
            "the mapping": self._request.mapping.as_rows(),
            "the precision": self._request.precision,
        }

    def items(self, files: Iterable[Path]) -> Iterator[Pair]:
        return chain.from_iterable(self._files(files))

    def sources(self, files: Iterable[Path]) -> Iterator[Pair]:
        """The records alone; a submission has ids, which may be made of the texts."""
        if self._request.kaggle:
            return self.items(files)
        return chain.from_iterable(file.unread() for file in self._files(files))

    def _files(self, files: Iterable[Path]) -> Iterator[PairFile]:
        found = (
            PairFile(path, pieces.records(path), pieces.enough(path), self._request.mapping) for path in files
        )
        return _alike(found, self._request.kaggle)

    def load(self, number: int) -> Compute[Pair]:
        from tiebreak.judge.judge import load_judge

        if number == 0:  # later ones would keep the models before
            keep_memory()
        request = self._request
        judge = load_judge(request.models[number], request.device, request.score_tokens, request.precision)

        def compute(piece: Sequence[Pair], report: Callable[[float], None]) -> pa.Table:
            """Probabilities of the records' own sides, and why there are none."""
            p_NC = swap_answers(judged(judge, piece, report), [pair.swapped for pair in piece])
            reasons = pa.array([pair.error for pair in piece], pa.string())
            return pa.table(probability_columns(p_NC) | {ERROR: reasons})

        return compute

    def rows(
        self, pieces: Iterable[tuple[Sequence[Pair], Sequence[pa.Table]]], errors: bool
    ) -> Iterator[dict[str, Any]]:
        from tiebreak.stats.blend import weighted

        if self._request.output != STANDARD:
            self.decided = 0
        for piece, tables in pieces:
            p_NMC = np.stack([probabilities(table) for table in tables], axis=1)
            p_NC = weighted(np.array(self._weights), p_NMC)
            reasons = tables[0][ERROR].to_pylist()
            for row in output_rows(piece, p_NC, reasons, self._request.kaggle, errors, self._certain_from):
                self.decided += row.get(DECISION) is not None
                yield row

    def types(self, files: Sequence[Path]) -> pa.Schema | None:
        return None if self._request.kaggle else own_types(files, ADDED)


def _alike(files: Iterable[PairFile], kaggle: bool) -> Iterator[PairFile]:
    """The files. Raises TiebreakError if some hold preferences and others not, or any, where a submission is asked for."""
    first: PairFile | None = None
    for file in files:
        first = first or file
        if file.of_preferences and kaggle:
            raise TiebreakError(
                f"a submission says which of answers a and b wins, and {file.path} has chosen and rejected; leave out "
                "--format kaggle"
            )
        if file.of_preferences != first.of_preferences:
            one, other = (file, first) if file.of_preferences else (first, file)
            raise TiebreakError(
                f"{one.path} has the columns chosen and rejected, {other.path} has answers a and b; predict them apart"
            )
        yield file


def judged(judge: "Judge", piece: Sequence[Pair], report: Callable[[float], None]) -> "Array":
    """Probabilities (N, 3) of a piece, as the answers are shown; NaN where there is no pair."""
    p_NC = np.full((len(piece), len(LABELS)), np.nan)
    where = [n for n, pair in enumerate(piece) if pair.vote is not None]
    if where:
        table = votes_table([pair.vote for pair in piece if pair.vote is not None])
        p_NC[where] = judge.predict_table(table, report=lambda _, done, total, __: report(done / total))
    return p_NC
