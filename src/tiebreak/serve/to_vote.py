"""Pairs for the page's users to vote on: those of a file, the most informative first, until each has a vote."""

import json
from collections import deque
from collections.abc import Callable, Iterable, Mapping
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
from tiebreak.judge.inputs import as_table, read_pairs
from tiebreak.judge.judge import PairJudge
from tiebreak.serve.bodies import ErrorBody, Pair, failures
from tiebreak.serve.votes import VotesFile
from tiebreak.stats.acquisition import disagreement, priority
from tiebreak.votes.formats.mapping import NO_MAP, ColumnMap
from tiebreak.votes.formats.vote import Vote, unordered_id

TEXTS = ("prompt", "response_a", "response_b")
_LINKS = {
    "vote": {
        "operationId": "vote",
        "requestBody": "$response.body#/pair",
        "description": "The pair, to which the body adds the winner.",
    }
}
_AT_ONCE = 1024
"""Pairs that are judged before a stop is looked for."""


class PairsToVote:
    """Pairs (votes.schema.SCHEMA) in the order to vote on them, each once, without those of the file of votes.

    A pair that is handed out and not voted on comes again after all others. Votes that other servers write to the file count.
    """

    def __init__(self, pairs: pa.Table, votes: VotesFile) -> None:
        self._pairs = {_id(pair): pair for pair in reversed(_rows(pairs))}  # of equal ones the first
        self._waiting = deque(reversed(self._pairs))
        self._votes, self._read = votes, 0
        self._lock = Lock()

    def next(self) -> tuple[dict[str, Any] | None, int]:
        """The next pair, as a request has it, and how many are left with it; None once all are voted on."""
        with self._lock:
            voted = {unordered_id(*vote[1:4]) for vote in self._new_votes()}
            self._waiting = deque(name for name in self._waiting if name not in voted)
            if not self._waiting:
                return None, 0
            self._waiting.rotate(-1)
            found = self._pairs[self._waiting[-1]]
            return {name: _plain(found[name]) for name in TEXTS}, len(self._waiting)

    def origin(self, pair: Mapping[str, Any]) -> dict[str, Any]:
        """Whose vote one on a pair is: its id here as question_id, which several votes may share, and the models of its
        answers. Empty for a pair that is not one of these.
        """
        given = _vote(pair)
        found = self._pairs.get(unordered_id(*given[1:4]))
        if found is None:
            return {}
        a, b = "ab" if found["response_a"] == given.response_a else "ba"
        known = {"question_id": found["id"], "model_a": found[f"model_{a}"], "model_b": found[f"model_{b}"]}
        return {name: value for name, value in known.items() if value is not None}

    def _new_votes(self) -> Iterable[Vote]:
        """The votes that were written since the last call."""
        lines = self._votes.read(self._read)
        self._read += len(lines)
        for line in lines.splitlines():
            with suppress(ValueError, TiebreakError):  # of a line within which a writer was killed
                vote = json.loads(line)
                if isinstance(vote, dict):
                    yield _vote(vote)


class NextPair(BaseModel):
    """A pair that has no vote yet, null once all have one; left: how many have none."""

    pair: Pair | None
    left: int


def router(pairs: PairsToVote) -> APIRouter:
    routes = APIRouter(tags=["votes"])

    @routes.get(
        "/v1/votes/next",
        operation_id="next_pair",
        response_model_exclude_unset=True,
        responses=failures(ErrorBody) | {200: {"links": _LINKS}},
    )
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


def _rows(pairs: pa.Table) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pairs.select((*TEXTS, "id", "model_a", "model_b")).to_pylist()
    return rows


def _vote(pair: Mapping[str, Any]) -> Vote:
    """A pair as requests and the file of votes have it. Raises TiebreakError for what is none."""
    (vote,) = read_pairs([{name: pair[name] for name in (*TEXTS, "system") if name in pair}])
    return vote


def _id(pair: dict[str, Any]) -> str:
    return unordered_id(*(pair[name] for name in TEXTS))


def _plain(turns: list[str | None]) -> list[str | None] | str | None:
    """A single turn as the text that it is."""
    return turns[0] if len(turns) == 1 else turns
