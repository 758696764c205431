"""The service behind all routes: pairs and candidates are read, limited, queued and judged."""

import asyncio
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from starlette.concurrency import run_in_threadpool

from tiebreak.errors import TiebreakError
from tiebreak.judge import ranking
from tiebreak.judge.inputs import as_table
from tiebreak.judge.judgements import Judgements
from tiebreak.judge.ranking import Ranking
from tiebreak.serve.batching import Batcher, QueueFull
from tiebreak.serve.errors import ApiError
from tiebreak.stats.davidson import Floats
from tiebreak.stats.pair_schedule import budget_of
from tiebreak.votes.formats.candidates import Candidates, read_record


@dataclass(frozen=True)
class Limits:
    """What one request may ask for.

    body_bytes: of its body. text_characters: of its prompt and of each answer. pairs: to judge. seconds: until it is
    answered.
    """

    body_bytes: int = 8 * 2**20
    text_characters: int = 200_000
    pairs: int = 256
    seconds: float = 60.0


@dataclass
class Service:
    """A judge under a name. `draining` from the moment that it is asked to stop."""

    name: str
    max_tokens: int
    batcher: Batcher
    limits: Limits
    draining: bool = False

    async def judge(self, pairs: Sequence[Mapping[str, Any]]) -> Judgements:
        """Judge pairs, dicts as for `Judge.predict`. Raises ApiError."""
        self._limit_pairs(len(pairs))
        with _as_api_errors():
            table, _ = as_table(pairs)
            self._limit_texts(table)
            with self.batcher.admit(len(table)):
                future = asyncio.wrap_future(self.batcher.submit(table))
                return await asyncio.wait_for(future, self.limits.seconds)

    async def rank(
        self, rows: Sequence[Mapping[str, Any]], pairs: int | None = None
    ) -> tuple[list[Ranking], int]:
        """Rank the responses of each row, a dict with prompt and responses; and the tokens read. Raises ApiError."""
        with _as_api_errors():
            candidates = [_candidates(row) for row in rows]
            most = sum(budget_of(len(found.responses), pairs) for found in candidates)
            self._limit_pairs(most)
            for found in candidates:
                self._limit_text(max(map(_characters, (found.prompt, *found.responses))))
            with self.batcher.admit(most):
                return await run_in_threadpool(self._rank, candidates, pairs)

    def _rank(self, candidates: Sequence[Candidates], pairs: int | None) -> tuple[list[Ranking], int]:
        deadline, tokens = time.monotonic() + self.limits.seconds, 0

        def predict(table: pa.Table, _: Any) -> Floats:
            nonlocal tokens
            found = _wait(self.batcher.submit(table), deadline - time.monotonic())
            tokens += found.tokens
            return found.p_NC

        return ranking.rank(candidates, predict, pairs), tokens

    def _limit_pairs(self, pairs: int) -> None:
        if pairs > self.limits.pairs:
            raise ApiError(413, f"{pairs} pairs in a request; at most {self.limits.pairs} are judged")

    def _limit_texts(self, table: pa.Table) -> None:
        for name in ("prompt", "response_a", "response_b"):
            turns = table[name].combine_chunks()
            lengths = pc.fill_null(pc.utf8_length(pc.list_flatten(turns)), 0).to_numpy()
            if len(lengths):
                self._limit_text(int(np.bincount(pc.list_parent_indices(turns).to_numpy(), lengths).max()))

    def _limit_text(self, characters: int) -> None:
        if characters > self.limits.text_characters:
            raise ApiError(
                413,
                f"a text has {characters} characters; at most {self.limits.text_characters} are read",
            )


def _candidates(row: Mapping[str, Any]) -> Candidates:
    found = read_record(dict(row))
    if found.error is not None:
        raise TiebreakError(found.error)
    return found


def _characters(turns: Sequence[str | None]) -> int:
    return sum(len(turn or "") for turn in turns)


def _wait(future: "Future[Judgements]", seconds: float) -> Judgements:
    try:
        return future.result(seconds)
    except TimeoutError:
        future.cancel()
        raise


@contextmanager
def _as_api_errors() -> Iterator[None]:
    """What goes wrong, as a client is told."""
    try:
        yield
    except QueueFull as error:
        raise ApiError(429, str(error), headers={"Retry-After": str(error.seconds)}) from None
    except TimeoutError:
        raise ApiError(504, "the judge has not answered in time; ask for fewer pairs, or later") from None
    except TiebreakError as error:
        raise ApiError(422, str(error)) from None
