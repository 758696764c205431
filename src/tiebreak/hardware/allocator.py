"""Memory of a process that only judges: tensors that are freed stay for the next forward."""

import atexit
import ctypes
import gc
import sys

_M_TRIM_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -4, -8
"""Of glibc's malloc.h."""
_NEW_OBJECTS = 10_000


def keep_memory() -> None:
    """Have this process keep the memory that it frees, and leave out of garbage collection all that it has now.

    By default glibc gives a large tensor's memory back, so that each forward on a CPU takes its pages anew, at up to a sixth of
    a small model's time, and those of the threads beside it. See mallopt(3). Garbage collection looks through all of the
    libraries again and again, a third of a second each time; what is there now is never collected, so not after a model that is
    dropped later. New objects are looked through when there are ten thousand, not 700, since pieces of thousands of records
    are held. For commands: in another process, as a notebook's, something else may need what is freed.
    """
    gc.freeze()
    gc.set_threshold(_NEW_OBJECTS)
    atexit.register(gc.unfreeze)  # libraries complain of what is left at the end
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, -1)
        mallopt(_M_ARENA_MAX, 1)  # a thread's own arena cannot hold large tensors
