"""Memory that is freed stays with the process; in processes of their own, since nothing undoes that."""

import subprocess
import sys

import pytest

SCRIPT = """
import atexit, gc, resource
from tiebreak.hardware.allocator import keep_memory

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

atexit.register(lambda: print(gc.get_freeze_count()))
if {kept}:
    keep_memory()
frozen = gc.get_freeze_count()
bytearray({size})
before = faults()
for _ in range(5):
    bytearray({size})
print(faults() - before, frozen)
"""
SIZE = 64 << 20


@pytest.mark.skipif(sys.platform != "linux", reason="page faults of glibc")
def test_pages_are_taken_once() -> None:
    (lost, _, _), (kept, frozen, at_end) = (_run(kept) for kept in (False, True))
    assert lost >= 5 * (SIZE >> 21), "the system gives them anew, even where a page is large"
    assert kept < lost / 10
    assert (frozen > 1000, at_end) == (True, 0)


def _run(kept: bool) -> list[int]:
    """Faults of pages, frozen objects, and those at the end."""
    script = SCRIPT.format(kept=kept, size=SIZE)
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    return [int(number) for number in done.stdout.split()]
