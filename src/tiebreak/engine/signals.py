"""Stop signals: Ctrl-C, SIGTERM from a scheduler, SIGUSR1 before the end of a job's time."""

import ctypes
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
_PR_SET_PDEATHSIG = 1


class Stop:
    """Stop flag, True after a stop signal; a second Ctrl-C raises KeyboardInterrupt."""

    def __init__(self) -> None:
        self.received: int | None = None
        self.at_once = False
        self._is_installed = False

    def install(self) -> "Stop":
        """Install the signal handlers. Returns itself."""
        self._is_installed = True
        for number in STOPPING:
            signal.signal(number, self._on_signal)
        return self

    @contextmanager
    def on_interrupt(self) -> Iterator[None]:
        """Stop on Ctrl-C within the block, in a program that has its own handlers; other threads cannot."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = signal.signal(signal.SIGINT, self._on_signal)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    def end(self) -> None:
        """Ignore the signals from here on: while it exits, Python would put back handlers that end the process."""
        if self._is_installed:
            for number in STOPPING:
                signal.signal(number, signal.SIG_IGN)

    def __call__(self) -> bool:
        return self.received is not None

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT == self.received:
            self.at_once = True
            raise KeyboardInterrupt
        self.received = number

    @property
    def exit_code(self) -> int:
        """Exit code by shell convention: 128 + the signal."""
        return 128 + (self.received or signal.SIGINT)


@contextmanager
def block_signals() -> Iterator[None]:
    """Start processes with stop signals blocked, until they have handlers and call `unblock_signals`."""
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def unblock_signals() -> None:
    """Unblock the stop signals that were blocked while this process started."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)


def kill_on_parent_exit(parent: int) -> None:
    """Make the kernel kill this process when its parent exits for any reason (Linux only)."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)
