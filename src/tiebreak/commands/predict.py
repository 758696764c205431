"""Prediction of files of pairs, as by `tiebreak predict`: in pieces that are kept, so that it goes on where it stopped.

The output has every row of the inputs with all its columns, in their order, and the probabilities behind them.
Dimension letters: N pairs of a piece, M models, C classes (a, b, tie).
"""

import queue
import shutil
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tiebreak.commands import row_files
from tiebreak.commands.output_rows import ADDED, DECISION, output_rows, own_names
from tiebreak.commands.predict_progress import Progress, count_rows
from tiebreak.commands.unfinished import Unfinished, folder_of
from tiebreak.engine.workspace import content_fingerprint
from tiebreak.errors import Interrupted, TiebreakError
from tiebreak.hashes import file_digest
from tiebreak.output import new_file, new_folder, replacing
from tiebreak.votes.formats import containers, hub_datasets, pairs
from tiebreak.votes.formats.pairs import Pair, PairFile
from tiebreak.votes.formats.readers import record_batch
from tiebreak.votes.schema import LABELS

if TYPE_CHECKING:
    from tiebreak.judge.judge import Judge
    from tiebreak.stats.metrics import Array

STANDARD = Path("-")
"""Standard input or output, as JSON Lines."""
PIECE = 2048
"""Pairs that are judged at a time, and lost at most where a process is killed."""
_PIECE_CHARS = 16 << 20
_ARRIVING = 64


@dataclass(frozen=True)
class Request:
    """What to predict: by which models, weighted how, of which files.

    shard: (k, n), the k-th of every n pieces, counted from 0. kaggle: a submission's columns alone. strict: a row that
    cannot be judged is an error. max_error: decide the pairs among whose decisions the error is below it.
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


@dataclass
class Outcome:
    """Rows written, those decided, those that could not be judged, with the first reason, and the models' weights."""

    rows: int = 0
    decided: int = 0
    unjudged: int = 0
    reason: str | None = None
    weights: list[float] = field(default_factory=list)
    finished: bool = True

    def count(self, piece: Sequence[Pair], strict: bool) -> None:
        """Count the rows of a piece. Raises TiebreakError if one cannot be judged and `strict` forbids it."""
        errors = [
            f"row {n}: {pair.error}" for n, pair in enumerate(piece, self.rows + 1) if pair.error is not None
        ]
        self.rows += len(piece)
        self.unjudged += len(errors)
        self.reason = self.reason or next(iter(errors), None)
        if strict and errors:
            raise TiebreakError(
                f"a row cannot be judged, {self.reason}. Mend it, or leave out --strict: then it stays in the output, with "
                "the reason"
            )


def predict(request: Request, stop: Callable[[], bool] = lambda: False) -> Outcome:
    """Predict every pair of some files.

    Raises TiebreakError for an output that cannot be written, a folder that is no model, pairs that cannot be read, other
    inputs than those that an unfinished output has begun with, and what `Ensemble` refuses; Interrupted, with what is done
    on disk, once `stop` returns True.
    """
    from tiebreak.judge.ensemble import Ensemble

    _check_paths(request)
    ensemble = Ensemble(request.models, request.weights, request.device, precision=request.precision)
    if request.fit:
        ensemble.fit(request.fit)
    weights = ensemble.weights_.tolist()
    certain_from = _threshold(request)
    if request.output == STANDARD:
        outcome = _stream(request, weights, certain_from, stop)
    else:
        outcome = _to_file(request, weights, certain_from, stop)
    outcome.weights = weights
    return outcome


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


def _check_paths(request: Request) -> None:
    others = [path for path in (*request.inputs, request.fit) if path is not None and path != STANDARD]
    if request.output != STANDARD:
        new_file(request.output, row_files.SUFFIXES, others)
    elif request.shard != (0, 1):
        raise TiebreakError("standard output takes no shards; name a file with --output")
    if STANDARD in request.inputs and len(request.inputs) > 1:
        raise TiebreakError(
            "standard input (-) comes alone; write what it gives into a file to predict it with others"
        )


# --- into a file


def _to_file(
    request: Request, weights: Sequence[float], certain_from: float | None, stop: Callable[[], bool]
) -> Outcome:
    files = _files(request)
    unfinished = Unfinished(request.output, _job(request, files, weights))
    outcome, pieces = Outcome(), 0
    try:
        for model in range(len(request.models)):
            outcome, pieces = _predict_pieces(request, files, model, unfinished, stop)
    except TiebreakError:
        if unfinished.is_empty():
            unfinished.remove()
        raise
    if any(not unfinished.has(m, n) for m in range(len(request.models)) for n in range(pieces)):
        if unfinished.folder.is_dir() and unfinished.is_empty():  # this shard had nothing to do
            unfinished.remove()
        # where the folder is gone, another shard has finished the output
        outcome.finished = not unfinished.folder.is_dir() and request.output.is_file()
        return outcome
    with unfinished.finishing() as output:
        if output:
            _join(request, files, unfinished, weights, certain_from, output, outcome)
    return outcome


def _files(request: Request) -> list[Path]:
    """The files to read. What comes on standard input is kept in one, beside the output."""
    if list(request.inputs) != [STANDARD]:
        return containers.expand(request.inputs)
    kept = new_folder(folder_of(request.output)) / "stdin.jsonl"
    with replacing(kept) as file:
        shutil.copyfileobj(sys.stdin.buffer, file)
    return [kept]


def _job(request: Request, files: Sequence[Path], weights: Sequence[float]) -> dict[str, Any]:
    """All that the predictions depend on, by the words in which a difference is told."""
    from tiebreak.judge import package

    return {
        "the models": [file_digest(model / package.NAME) for model in request.models],
        "the weights": list(weights),
        "the inputs": [[path.name, _fingerprint(path)] for path in files],
        "the precision": request.precision,
        "the size of a piece": [PIECE, _PIECE_CHARS],
    }


def _fingerprint(path: Path) -> str:
    return str(path) if hub_datasets.parse_location(path) else content_fingerprint(path)


def _predict_pieces(
    request: Request, files: Sequence[Path], model: int, unfinished: Unfinished, stop: Callable[[], bool]
) -> tuple[Outcome, int]:
    """Predict the missing pieces of this shard with one model. Returns what all rows are, and the number of pieces."""
    shard, shards = request.shard
    judge: Judge | None = None
    outcome, number = Outcome(), 0
    name = "predict" if len(request.models) == 1 else f"predict, model {model + 1} of {len(request.models)}"
    with Progress(name, unfinished.folder, count_rows(files)) as progress:
        for number, piece in enumerate(_pieces(files), 1):
            if stop():
                raise Interrupted
            if request.kaggle:
                _require_sides(piece)
            done = outcome.rows
            outcome.count(piece, request.strict)
            progress.reach(done)
            if (number - 1) % shards == shard and not unfinished.has(model, number - 1):
                judge = judge or _load(request, model)
                unfinished.write(
                    model, number - 1, _judged(judge, piece, partial(progress.within, done, len(piece)))
                )
    return outcome, number


def _load(request: Request, model: int) -> "Judge":
    from tiebreak.judge.judge import load_judge

    return load_judge(request.models[model], request.device, request.score_tokens, request.precision)


def _pieces(files: Sequence[Path]) -> Iterator[list[Pair]]:
    """All pairs in pieces, the same ones each time. Raises TiebreakError if some files hold preferences and others not."""
    piece: list[Pair] = []
    chars = 0
    for pair in chain.from_iterable(_alike(map(pairs.read_file, files))):
        piece.append(pair)
        chars += _chars(pair)
        if len(piece) == PIECE or chars >= _PIECE_CHARS:
            yield piece
            piece, chars = [], 0
    if piece:
        yield piece


def _alike(files: Iterable[PairFile]) -> Iterator[PairFile]:
    first: PairFile | None = None
    for file in files:
        first = first or file
        if file.of_preferences != first.of_preferences:
            one, other = (file, first) if file.of_preferences else (first, file)
            raise TiebreakError(
                f"{one.path} has the columns chosen and rejected, {other.path} has answers a and b; predict them apart"
            )
        yield file


def _chars(pair: Pair) -> int:
    return sum(len(turn or "") for turns in pair.vote[1:4] for turn in turns) if pair.vote else 0


def _require_sides(piece: Sequence[Pair]) -> None:
    if any(pair.preference for pair in piece):
        raise TiebreakError(
            "a submission says which of answers a and b wins, and these rows have chosen and rejected; leave out "
            "--format kaggle"
        )


def _judged(judge: "Judge", piece: Sequence[Pair], report: Callable[[float], None]) -> "Array":
    """Probabilities (N, 3) of a piece, as the answers are shown; NaN where there is no pair."""
    p_NC = np.full((len(piece), len(LABELS)), np.nan)
    where = [n for n, pair in enumerate(piece) if pair.vote is not None]
    if where:
        table = pa.Table.from_batches([record_batch([pair.vote for pair in piece if pair.vote is not None])])
        p_NC[where] = judge.predict_table(table, report=lambda _, done, total, __: report(done / total))
    return p_NC


def _join(
    request: Request,
    files: Sequence[Path],
    unfinished: Unfinished,
    weights: Sequence[float],
    certain_from: float | None,
    output: Path,
    outcome: Outcome,
) -> None:
    """Write the output from the inputs and the pieces, and count what is decided."""
    from tiebreak.stats.blend import weighted

    def rows() -> Iterator[dict[str, Any]]:
        outcome.decided = 0
        for number, piece in enumerate(_pieces(files)):
            p_NMC = np.stack([unfinished.read(m, number) for m in range(len(weights))], axis=1)
            p_NC = weighted(np.array(weights), p_NMC)
            for row in output_rows(piece, p_NC, request.kaggle, outcome.unjudged > 0, certain_from):
                outcome.decided += row.get(DECISION) is not None
                yield row

    row_files.write(rows, output, None if request.kaggle else _types(files), ADDED)


def _types(files: Sequence[Path]) -> pa.Schema | None:
    """The columns' types where all files are Parquet and agree on them."""
    try:
        schema = pa.unify_schemas([pq.read_schema(path) for path in files])
        names = own_names(schema.names)
        return pa.schema([column.with_name(names[column.name]) for column in schema])
    except (pa.ArrowException, OSError):
        return None


# --- onto standard output


def _stream(
    request: Request, weights: Sequence[float], certain_from: float | None, stop: Callable[[], bool]
) -> Outcome:
    """Predict and write piece by piece."""
    from tiebreak.stats.blend import weighted

    outcome = Outcome()
    out: BinaryIO = getattr(sys.stdout, "unguarded", sys.stdout).buffer
    judges = [_load(request, m) for m in range(len(request.models))]
    if list(request.inputs) == [STANDARD]:
        found = _arriving(PairFile(STANDARD, containers.arriving(sys.stdin.buffer), enough=1))
    else:
        found = _pieces(containers.expand(request.inputs))
    for piece in found:
        if request.kaggle:
            _require_sides(piece)
        outcome.count(piece, request.strict)
        p_NMC = np.stack([_judged(judge, piece, lambda _: None) for judge in judges], axis=1)
        p_NC = weighted(np.array(weights), p_NMC)
        for row in output_rows(piece, p_NC, request.kaggle, certain_from=certain_from):
            outcome.decided += row.get(DECISION) is not None
            out.write(row_files.json_line(row))
        out.flush()
        if stop():
            outcome.finished = False
            break
    return outcome


def _arriving(file: Iterable[Pair]) -> Iterator[list[Pair]]:
    """What has come so far, in pieces, so that no pair waits for others."""
    came: queue.Queue[Pair | BaseException | None] = queue.Queue(2 * _ARRIVING)

    def read() -> None:
        try:
            for pair in file:
                came.put(pair)
            came.put(None)
        except BaseException as error:
            came.put(error)

    threading.Thread(target=read, daemon=True).start()
    while True:
        some = [came.get()]
        while len(some) < _ARRIVING and not came.empty():
            some.append(came.get())
        end = next((item for item in some if not isinstance(item, Pair)), some)
        if piece := [item for item in some if isinstance(item, Pair)]:
            yield piece
        if isinstance(end, BaseException):
            raise end
        if end is None:
            return
