"""Memory that is freed stays with the process; in processes of their own, since nothing undoes that."""

import subprocess
import sys

import pytest

SCRIPT = """
import resource
from tiebreak.hardware.allocator import keep_memory

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

if {kept}:
    keep_memory()
bytearray({size})
before = faults()
for _ in range(5):
    bytearray({size})
print(faults() - before)
"""
SIZE = 64 << 20


@pytest.mark.skipif(sys.platform != "linux", reason="page faults of glibc")
def test_pages_are_taken_once() -> None:
    lost, kept = (_run(kept) for kept in (False, True))
    assert lost >= 5 * (SIZE >> 21), "the system gives them anew, even where a page is large"
    assert kept < lost / 10


def _run(kept: bool) -> int:
    script = SCRIPT.format(kept=kept, size=SIZE)
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    return int(done.stdout)
