"""The server: judges loaded, a socket, and an end that loses no request."""

import asyncio
import os
import signal
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

import uvicorn
from starlette.types import ASGIApp

from tiebreak import terminal
from tiebreak.errors import TiebreakError
from tiebreak.hardware.allocator import keep_memory
from tiebreak.judge.judge import Judge, load_judge
from tiebreak.serve.app import create_app
from tiebreak.serve.batching import Batcher
from tiebreak.serve.bodies import PAIR_EXAMPLE
from tiebreak.serve.keys import Keys, is_loopback
from tiebreak.serve.service import Limits, Service
from tiebreak.serve.to_vote import PairsToVote, in_order
from tiebreak.serve.votes import VotesFile
from tiebreak.votes.formats.mapping import NO_MAP, ColumnMap

LINGER_SECONDS = 1.0
"""After a stop signal, how long connections are still answered, each for the last time, before the socket closes."""
_KEEP_ALIVE_SECONDS = 75
_BACKLOG = 2048


@dataclass(frozen=True)
class Options:
    """Of one server.

    devices: a worker on each; the GPU or the CPU that is there if there are none. pairs: a file of what the page's users vote
    on, whose columns `mapping` names; it needs a votes_file.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    name: str | None = None
    devices: Sequence[str] = ()
    precision: str = "auto"
    most_waiting: int = 4096
    votes_file: Path | None = None
    pairs: Path | None = None
    mapping: ColumnMap = NO_MAP
    limits: Limits = field(default_factory=Limits)


def serve(folder: Path, keys: Keys, options: Options, stop: Callable[[], bool] = lambda: False) -> None:
    """Serve a model folder until a stop signal, then answer what was accepted.

    stop: True once a signal came before the server listens. Raises TiebreakError for a model that cannot be loaded or used,
    pairs that cannot be read, and an address that is not to be had; Interrupted for a stop while pairs are judged.
    """
    votes = None if options.votes_file is None else VotesFile(options.votes_file)
    with _bound(options.host, options.port) as listener:
        devices: Sequence[str | None] = options.devices or [None]
        judges = [_load(folder, device, options.precision) for device in devices]
        if stop():
            return
        keep_memory()
        to_vote = None
        if votes is not None and options.pairs is not None:
            to_vote = PairsToVote(in_order(judges[0], options.pairs, options.mapping, stop), votes)
        with Batcher(judges, options.most_waiting) as batcher:
            name = options.name or folder.resolve().name
            service = Service(name, judges[0].package.tta.max_tokens, batcher, options.limits)
            app = create_app(service, keys, not keys and is_loopback(options.host), votes, to_vote)
            _Server(_config(app, options), service, _url(listener)).run([listener])
    terminal.note(f"stopped; {batcher.judged} pairs were judged")


class _Server(uvicorn.Server):
    """A server that, once asked to stop, first answers for a while with `Connection: close`.

    So that clients leave the connections that they keep, where the socket's end could meet their next request. A second
    Ctrl-C ends the process.
    """

    def __init__(self, config: uvicorn.Config, service: Service, url: str) -> None:
        super().__init__(config)
        self._service, self._url = service, url

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        terminal.note(f"serving {self._service.name} at {self._url}")

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self.should_exit and sig == signal.SIGINT:  # nothing is written that could be half there
            waiting = terminal.counted(self._service.batcher.admitted, "pair")
            terminal.note(f"stopped at once: {waiting} will not be answered")
            os._exit(128 + sig)
        super().handle_exit(sig, frame)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._service.draining = True
        terminal.note("stopping: what was accepted is answered first")
        await asyncio.sleep(LINGER_SECONDS)
        await super().shutdown(sockets)


def _config(app: ASGIApp, options: Options) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        lifespan="off",
        ws="none",
        server_header=False,
        backlog=_BACKLOG,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=int(options.limits.seconds) + 1,
    )


def _load(folder: Path, device: str | None, precision: str) -> Judge:
    """A judge that has judged a pair, so that kernels are checked and compiled before anybody waits."""
    judge = load_judge(folder, device, precision=precision)
    judge.predict([PAIR_EXAMPLE])
    return judge


def _bound(host: str, port: int) -> socket.socket:
    """A socket at an address, which does not listen yet. Raises TiebreakError if the address is not to be had."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise TiebreakError(
            f"no address {host}: {error.strerror}; --host takes one of this machine"
        ) from None
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
    except (OSError, OverflowError) as error:
        listener.close()
        reason = error.strerror if isinstance(error, OSError) else "no such port"
        raise TiebreakError(
            f"cannot listen at {host}, port {port}: {reason}; name another with --port, or 0 for any that is free"
        ) from None
    return listener


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
