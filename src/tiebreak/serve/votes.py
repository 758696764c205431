"""Votes of people who use the page: appended to a file of votes that a run reads, and exported from it."""

import errno
import fcntl
import json
import logging
import os
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock
from typing import Any, Literal
from uuid import uuid4

from fastapi import APIRouter, Response
from starlette.concurrency import run_in_threadpool

from tiebreak.errors import TiebreakError
from tiebreak.output import new_file, no_link
from tiebreak.serve.bodies import Answer, ErrorBody, Pair, Usage, failures
from tiebreak.serve.compare import Comparison, comparisons
from tiebreak.serve.errors import ApiError
from tiebreak.serve.service import Service

log = logging.getLogger(__name__)

_KIND = "application/x-ndjson"
_LINKS = {"export": {"operationId": "export", "description": "The vote is among those."}}


class VotesFile:
    """A file of JSON Lines, each a vote: id, prompt, response_a, response_b, winner (a, b or tie), shown_first, voted_at; one
    on a pair of a file has question_id, that pair's id, in place of id, and model_a and model_b.

    Raises TiebreakError for a path that cannot be written to.
    """

    def __init__(self, path: Path) -> None:
        self.path = new_file(path, (".jsonl",))
        self._lock = Lock()
        self._append(b"")

    def add(self, vote: Mapping[str, Any]) -> None:
        """Append a vote, on the disk when this returns. Several servers may write to one file."""
        self._append(json.dumps(dict(vote)).encode() + b"\n")

    def read(self, start: int = 0) -> bytes:
        """All whole votes, from a byte on at which one starts."""
        with self.path.open("rb") as file:
            file.seek(start)
            content = file.read()
        return content[: content.rfind(b"\n") + 1]

    def _append(self, line: bytes) -> None:
        try:
            with self._lock, open(self.path, "ab", buffering=0, opener=_opener) as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                _write_whole(file.fileno(), line)
                os.fsync(file.fileno())
        except OSError as error:
            raise TiebreakError(f"cannot write to the file of votes {self.path}: {error.strerror}") from None


def _write_whole(file: int, line: bytes) -> None:
    """Append a line or nothing of it; before it the end of a line within which a writer was killed."""
    size = os.fstat(file).st_size
    broken = size and os.pread(file, 1, size - 1) != b"\n"
    text = b"\n" * bool(broken) + line
    if os.write(file, text) < len(text):
        os.ftruncate(file, size)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _opener(path: str, flags: int) -> int:
    """To append, and to read how the file ends."""
    return no_link(path, flags & ~os.O_WRONLY | os.O_RDWR)


class VoteRequest(Pair):
    """A pair and what a person thought of it."""

    winner: Literal["a", "b", "tie"]
    shown_first: Literal["a", "b"] | None = None


class VoteResponse(Answer):
    """The judge's opinion, once the vote is written."""

    comparison: Comparison


def router(
    service: Service, votes: VotesFile, origin: Callable[[Mapping[str, Any]], dict[str, Any]] | None = None
) -> APIRouter:
    """The routes of votes. origin: what a vote on a pair has besides, empty for a pair that nothing is known of."""
    routes = APIRouter(tags=["votes"])

    @routes.post("/v1/votes", operation_id="vote", responses=failures(ErrorBody) | {200: {"links": _LINKS}})
    async def vote(body: VoteRequest) -> VoteResponse:
        """Write a vote; the judge's opinion is the answer."""
        given = body.model_dump(exclude_unset=True)
        pair = {name: given[name] for name in Pair.model_fields if name in given}
        found = await service.judge([pair])
        known = origin(pair) if origin else {}
        now = datetime.now(UTC).isoformat(timespec="seconds")
        try:
            await run_in_threadpool(votes.add, (known or {"id": uuid4().hex}) | given | {"voted_at": now})
        except TiebreakError as error:
            log.error("%s", error)
            raise ApiError(503, "the vote could not be written; the server's log says why") from None
        (comparison,) = comparisons(found)
        return VoteResponse(model=service.name, usage=Usage.of(found.tokens), comparison=comparison)

    @routes.get("/v1/votes", operation_id="export", response_class=Response)
    async def export() -> Response:
        """All votes of the file, JSON Lines."""
        headers = {"Content-Disposition": 'attachment; filename="votes.jsonl"'}
        return Response(await run_in_threadpool(votes.read), media_type=_KIND, headers=headers)

    return routes
