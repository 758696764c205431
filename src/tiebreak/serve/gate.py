"""The gate before all routes: keys, hosts, the size of bodies, the time to send them, and what nobody expected.

An ASGI middleware. A body is read whole before its route sees it, so that a limit is an answer and not a broken
connection. Nothing of a body, a header or a query is logged.
"""

import asyncio
import logging
import time
from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tiebreak.serve import page
from tiebreak.serve.errors import ApiError, response
from tiebreak.serve.keys import Keys, is_loopback
from tiebreak.serve.metrics import Metrics
from tiebreak.serve.service import Service

log = logging.getLogger(__name__)

OPEN_PATHS = frozenset({"/health", "/ready"}) | page.PATHS
"""What is answered without a key."""


@dataclass(frozen=True)
class Gate:
    """The app behind the gate. local_only: requests that name another host are refused, as a page in a browser whose own
    host resolves to this machine sends them.
    """

    app: ASGIApp
    service: Service
    keys: Keys
    metrics: Metrics
    local_only: bool

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        start, status = time.monotonic(), 0

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message = {**message, "headers": [*message["headers"], *self._more_headers()]}
            await send(message)

        try:
            self._require_access(scope)
            await self.app(scope, await self._whole_body(scope, receive), send_with_headers)
        except ApiError as error:
            await response(scope["path"], error)(scope, receive, send_with_headers)
        except Exception as error:  # the app has answered that it does not know
            log_unexpected(log, error)
        finally:
            self.metrics.count(scope["path"], status, time.monotonic() - start)

    def _more_headers(self) -> list[tuple[bytes, bytes]]:
        closing = [(b"connection", b"close")] if self.service.draining else []
        return [(b"x-content-type-options", b"nosniff"), *closing]

    def _require_access(self, scope: Scope) -> None:
        headers = Headers(scope=scope)
        if self.local_only and not is_loopback(_hostname(headers.get("host", ""))):
            raise ApiError(
                403, "this server answers to names of its own machine alone; with a key it answers to all"
            )
        if self.keys and scope["path"] not in OPEN_PATHS:
            authorization = headers.get("authorization", "").encode("latin-1", "replace")
            if not self.keys.accepts(authorization):
                raise ApiError(
                    401, "a key is needed: Authorization: Bearer KEY", headers={"WWW-Authenticate": "Bearer"}
                )

    async def _whole_body(self, scope: Scope, receive: Receive) -> Receive:
        limits = self.service.limits
        declared = Headers(scope=scope).get("content-length", "0")
        if declared.isdecimal() and int(declared) > limits.body_bytes:
            raise _too_large(limits.body_bytes)
        try:
            body = await asyncio.wait_for(_read(receive, limits.body_bytes), limits.seconds)
        except TimeoutError:
            raise ApiError(408, "the body did not come in time", headers={"Connection": "close"}) from None
        given = False

        async def receive_again() -> Message:
            nonlocal given
            if given:
                return await receive()
            given = True
            return {"type": "http.request", "body": body, "more_body": False}

        return receive_again


async def _read(receive: Receive, most: int) -> bytes:
    """The whole body. Raises ApiError once it is larger than `most` bytes."""
    body = bytearray()
    while True:
        message = await receive()
        body += message.get("body", b"")
        if len(body) > most:
            raise _too_large(most)
        if message["type"] == "http.disconnect" or not message.get("more_body", False):
            return bytes(body)


def _too_large(most: int) -> ApiError:
    return ApiError(413, f"the body has more than {most} bytes", headers={"Connection": "close"})


def log_unexpected(logger: logging.Logger, error: BaseException) -> None:
    """Log an error's type and place, not its message, which may hold a text."""
    place = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    where = f"{place.tb_frame.f_code.co_filename}:{place.tb_lineno}" if place else "an unknown place"
    logger.error("unexpected %s at %s", type(error).__name__, where)


def _hostname(host: str) -> str:
    """The name in a Host header, without its port."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]
