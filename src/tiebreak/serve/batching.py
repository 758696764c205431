"""Micro-batching: pairs of several requests are judged together, about a forward at a time, or a quarter of a second.

Requests wait in one queue. Each worker is a thread that alone uses its judge, takes what waits up to its judge's token
budget, or more where that is judged sooner than in _BATCH_SECONDS, and has both orders of all of it scored in one call. The
scorer packs by exact lengths; how much to take is estimated from characters.
"""

import math
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Condition, Thread
from types import TracebackType
from typing import Protocol, Self

import pyarrow as pa

from tiebreak.judge.judgements import Judgements
from tiebreak.votes.formats.dialog import Turns
from tiebreak.votes.formats.readers import votes_table
from tiebreak.votes.formats.vote import Vote

_CHARACTERS_PER_TOKEN = 4
_FRAME_TOKENS = 30
"""About those of the template and the marks around the texts."""
_ORDERS = 2
_RECENT = 0.2
"""The weight of the last batch in moving averages."""
_BATCH_SECONDS = 0.25
"""A batch that takes no longer may be several forwards: the more pairs there are to pack, the less each costs."""


class Judging(Protocol):
    """What a worker needs of a judge."""

    score_tokens: int

    def judgements(self, table: pa.Table) -> Judgements: ...


class QueueFull(Exception):
    """There is no room for a request. seconds: about when there is."""

    def __init__(self, seconds: int) -> None:
        super().__init__(f"too many pairs are waiting; try again in {seconds} s")
        self.seconds = seconds


@dataclass(frozen=True)
class _Waiting:
    votes: Sequence[Vote]
    tokens: int
    future: "Future[Judgements]"


class Batcher:
    """One queue before one or more judges. A context manager: leaving it judges all that waits, then ends the threads."""

    def __init__(self, judges: Sequence[Judging], most_pairs: int) -> None:
        self.most_pairs = most_pairs
        self.admitted = 0
        self.batches, self.judged, self.tokens = 0, 0, 0
        self._waiting: deque[_Waiting] = deque()
        self._changed = Condition()
        self._closing = False
        self._seconds_per_pair = 0.01
        self._tokens_per_second = 0.0
        self._threads = [
            Thread(target=self._work, args=(judge,), name=f"judge-{n}", daemon=True)
            for n, judge in enumerate(judges)
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def is_alive(self) -> bool:
        """True while all workers are at work."""
        return all(thread.is_alive() for thread in self._threads)

    @contextmanager
    def admit(self, pairs: int) -> Iterator[None]:
        """Room for a request of so many pairs, until it is answered. Raises QueueFull if there is none."""
        with self._changed:
            if self.admitted + pairs > self.most_pairs:
                seconds = self.admitted * self._seconds_per_pair / len(self._threads)
                raise QueueFull(max(1, math.ceil(seconds)))
            self.admitted += pairs
        try:
            yield
        finally:
            with self._changed:
                self.admitted -= pairs

    def submit(self, votes: Sequence[Vote]) -> "Future[Judgements]":
        """Queue pairs to be judged, those of an admitted request."""
        waiting = _Waiting(votes, estimated_tokens(votes), Future())
        with self._changed:
            self._waiting.append(waiting)
            self._changed.notify()
        return waiting.future

    def _work(self, judge: Judging) -> None:
        while batch := self._next_batch(judge.score_tokens):
            start = time.monotonic()
            tokens = _judge(judge, batch)
            self._count(batch, tokens, time.monotonic() - start)

    def _next_batch(self, budget: int) -> list[_Waiting]:
        """What waits, up to the token budget of a forward or _BATCH_SECONDS; none once all is done and the batcher is closing."""
        batch: list[_Waiting] = []
        with self._changed:
            while not batch:
                self._changed.wait_for(lambda: self._waiting or self._closing)
                if not self._waiting:
                    return []
                tokens, budget = 0, max(budget, round(_BATCH_SECONDS * self._tokens_per_second))
                while self._waiting and (not batch or tokens + self._waiting[0].tokens <= budget):
                    waiting = self._waiting.popleft()
                    if waiting.future.set_running_or_notify_cancel():  # else nobody waits for it any more
                        batch.append(waiting)
                        tokens += waiting.tokens
        return batch

    def _count(self, batch: Sequence[_Waiting], tokens: int, seconds: float) -> None:
        pairs = sum(len(waiting.votes) for waiting in batch)
        estimated = sum(waiting.tokens for waiting in batch)
        with self._changed:
            self.batches += 1
            self.judged += pairs
            self.tokens += tokens
            self._seconds_per_pair += _RECENT * (seconds / pairs - self._seconds_per_pair)
            self._tokens_per_second += _RECENT * (estimated / seconds - self._tokens_per_second)


def estimated_tokens(votes: Sequence[Vote]) -> int:
    """About how many tokens the model reads for these pairs, in both orders."""
    characters = sum(count_characters(turns) for vote in votes for turns in vote[1:4])
    return _ORDERS * (characters // _CHARACTERS_PER_TOKEN + _FRAME_TOKENS * len(votes))


def count_characters(turns: Turns) -> int:
    """The characters of a text."""
    return sum(len(turn or "") for turn in turns)


def _judge(judge: Judging, batch: Sequence[_Waiting]) -> int:
    """Judge a batch in one call; if that fails, each request by itself, so that only those at fault do. Returns tokens."""
    try:
        found = judge.judgements(votes_table([vote for waiting in batch for vote in waiting.votes]))
    except Exception as error:
        if len(batch) > 1:
            return sum(_judge(judge, [waiting]) for waiting in batch)
        batch[0].future.set_exception(error)
        return 0
    start = 0
    for waiting in batch:
        stop = start + len(waiting.votes)
        waiting.future.set_result(found[start:stop])
        start = stop
    return found.tokens
