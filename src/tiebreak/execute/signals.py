"""Being asked to stop: Ctrl-C, SIGTERM from a scheduler, SIGUSR1 before the end of a job's time."""

import ctypes
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
_PR_SET_PDEATHSIG = 1


class Stop:
    """True once a stopping signal has come; a second Ctrl-C does not wait any more (KeyboardInterrupt)."""

    def __init__(self) -> None:
        self.received: int | None = None

    def install(self) -> "Stop":
        """Listen from now on. Returns itself."""
        for number in STOPPING:
            signal.signal(number, self._on_signal)
        return self

    def __call__(self) -> bool:
        return self.received is not None

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT == self.received:
            raise KeyboardInterrupt
        self.received = number

    @property
    def exit_code(self) -> int:
        """128 + the signal, as shells say it."""
        return 128 + (self.received or signal.SIGINT)


@contextmanager
def held_back() -> Iterator[None]:
    """Have processes that are started here hear stopping signals only once they call `hear`, ready for them."""
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def hear() -> None:
    """Let in the stopping signals that were held back while this process started."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)


def die_with(parent: int) -> None:
    """Have the kernel kill this process when its parent ends, however it ends (Linux only)."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)
