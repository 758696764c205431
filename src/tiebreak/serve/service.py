"""The service behind all routes: pairs and candidates are read, limited, queued and judged."""

import asyncio
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from starlette.concurrency import run_in_threadpool

from tiebreak.errors import TiebreakError
from tiebreak.judge import ranking
from tiebreak.judge.inputs import read_pairs
from tiebreak.judge.judgements import Judgements
from tiebreak.judge.ranking import Ranking
from tiebreak.serve.batching import Batcher, QueueFull, count_characters
from tiebreak.serve.errors import ApiError
from tiebreak.stats.davidson import Floats
from tiebreak.stats.pair_schedule import budget_of
from tiebreak.votes.formats.candidates import Candidates, read_record
from tiebreak.votes.formats.dialog import Turns
from tiebreak.votes.formats.vote import Vote


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
            votes = list(read_pairs(pairs))
            for vote in votes:
                self._limit_texts(vote[1:4])
            with self.batcher.admit(len(votes)):
                future = asyncio.wrap_future(self.batcher.submit(votes))
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
                self._limit_texts((found.prompt, *found.responses))
            with self.batcher.admit(most):
                return await run_in_threadpool(self._rank, candidates, pairs)

    def _rank(self, candidates: Sequence[Candidates], pairs: int | None) -> tuple[list[Ranking], int]:
        deadline, tokens = time.monotonic() + self.limits.seconds, 0

        def predict(votes: Sequence[Vote], _: Any) -> Floats:
            nonlocal tokens
            found = _wait(self.batcher.submit(votes), deadline - time.monotonic())
            tokens += found.tokens
            return found.p_NC

        return ranking.rank(candidates, predict, pairs), tokens

    def _limit_pairs(self, pairs: int) -> None:
        if pairs > self.limits.pairs:
            raise ApiError(413, f"{pairs} pairs in a request; at most {self.limits.pairs} are judged")

    def _limit_texts(self, texts: Iterable[Turns]) -> None:
        for characters in map(count_characters, texts):
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
