"""Memory of a process that only judges: tensors that are freed stay for the next forward."""

import ctypes
import sys

_M_TRIM_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -4, -8
"""Of glibc's malloc.h."""


def keep_memory() -> None:
    """Have this process keep the memory that it frees.

    By default glibc gives a large tensor's memory back, so that each forward on a CPU takes its pages anew, at up to a sixth of
    a small model's time, and those of the threads beside it. For commands, once their models are loaded: what else is in a
    process, as in a notebook, may need what is freed. See mallopt(3). Without glibc it does nothing.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, -1)
        mallopt(_M_ARENA_MAX, 1)  # a thread's own arena cannot hold large tensors
