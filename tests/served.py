"""A server of `tiebreak serve` in a process of its own, for as long as a test needs it."""

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from forked import Tiebreak

SECONDS = 120
"""A busy machine is slow to load a model."""


@contextmanager
def served(*arguments: object, folder: Path | None = None) -> Iterator[tuple[Tiebreak, str]]:
    """The process, on a port that is free, and its address, once it listens."""
    server = Tiebreak("serve", *arguments, "--port", 0, "--device", "cpu", folder=folder)
    try:
        deadline = time.monotonic() + SECONDS
        while not (found := re.search(r"^serving .* at (\S+)$", server.said("err"), re.M)):
            assert server.poll() is None, server.said("err")
            assert time.monotonic() < deadline, server.said("err")
            time.sleep(0.02)
        yield server, found[1]
    finally:
        if server.poll() is None:
            server.kill()
