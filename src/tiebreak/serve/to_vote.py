"""Pairs for the page's users to vote on: those of a file, the most informative first, until each has a vote."""

import json
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock
from typing import Any

import numpy as np
import pyarrow as pa
from fastapi import APIRouter
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool

from tiebreak import terminal
from tiebreak.engine.progress import Reporter
from tiebreak.errors import Interrupted, TiebreakError
from tiebreak.judge import committee
from tiebreak.judge.inputs import as_table
from tiebreak.judge.judge import PairJudge
from tiebreak.serve.bodies import ErrorBody, Pair, failures
from tiebreak.serve.votes import VotesFile
from tiebreak.stats.acquisition import disagreement, priority
from tiebreak.votes.formats.mapping import NO_MAP, ColumnMap
from tiebreak.votes.formats.vote import unordered_id

TEXTS = ("prompt", "response_a", "response_b")
_AT_ONCE = 1024
"""Pairs that are judged before a stop is looked for."""


class PairsToVote:
    """Pairs (votes.schema.SCHEMA) in the order to vote on them, each once, without those of the file of votes.

    A pair that is handed out and not voted on comes again after all others. Votes that other servers write to the file count.
    """

    def __init__(self, pairs: pa.Table, votes: VotesFile) -> None:
        self._waiting = deque({_id(pair): pair for pair in _texts(pairs)}.items())
        self._votes, self._read = votes, 0
        self._lock = Lock()

    def next(self) -> tuple[dict[str, Any] | None, int]:
        """The next pair, as a request has it, and how many are left with it; None once all are voted on."""
        with self._lock:
            voted = set(map(_id, self._new_votes()))
            self._waiting = deque(item for item in self._waiting if item[0] not in voted)
            if not self._waiting:
                return None, 0
            self._waiting.rotate(-1)
            pair = {name: _plain(turns) for name, turns in self._waiting[-1][1].items()}
            return pair, len(self._waiting)

    def _new_votes(self) -> Iterable[dict[str, Any]]:
        """The texts of the votes that were written since the last call."""
        lines = self._votes.read(self._read)
        self._read += len(lines)
        for line in lines.splitlines():
            with suppress(ValueError, TiebreakError):  # of a line within which a writer was killed
                vote = json.loads(line)
                if isinstance(vote, dict):
                    texts = {name: vote[name] for name in (*TEXTS, "system") if name in vote}
                    yield from _texts(as_table([texts])[0])


class NextPair(BaseModel):
    """A pair that has no vote yet, null once all have one; left: how many have none."""

    pair: Pair | None
    left: int


def router(pairs: PairsToVote) -> APIRouter:
    routes = APIRouter(tags=["votes"])

    @routes.get("/v1/votes/next", response_model_exclude_unset=True, responses=failures(ErrorBody))
    async def next_pair() -> NextPair:
        """The next pair to vote on, the most informative first; another one with each request."""
        pair, left = await run_in_threadpool(pairs.next)
        return NextPair(pair=None if pair is None else Pair(**pair), left=left)

    return routes


def in_order(
    judge: PairJudge, path: Path, mapping: ColumnMap = NO_MAP, stop: Callable[[], bool] = lambda: False
) -> pa.Table:
    """The pairs of a file in the order to vote on them, drawn by how much the judge's predictions of each disagree.

    Raises TiebreakError for a file that cannot be read whole; Interrupted once `stop` returns True.
    """
    pairs, _ = as_table(path, mapping.columns)
    found = [np.empty(0)]
    with TemporaryDirectory(prefix="tiebreak-") as folder:
        report = Reporter(Path(folder), terminal.note, len(pairs) + 1)
        for start in range(0, len(pairs), _AT_ONCE):
            if stop():
                raise Interrupted
            p_NMC = committee.predictions(judge, pairs.slice(start, _AT_ONCE))
            found.append(disagreement(p_NMC))
            report("judging", min(start + _AT_ONCE, len(pairs)), len(pairs), "pairs to vote on")
    priority_N = priority(np.concatenate(found), np.random.default_rng(0))
    return pairs.take(np.argsort(-priority_N))


def _texts(pairs: pa.Table) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pairs.select(TEXTS).to_pylist()
    return rows


def _id(pair: dict[str, Any]) -> str:
    return unordered_id(*(pair[name] for name in TEXTS))


def _plain(turns: list[str | None]) -> list[str | None] | str | None:
    """A single turn as the text that it is."""
    return turns[0] if len(turns) == 1 else turns
