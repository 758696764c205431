"""A seeded mutation fuzzer of files that people bring: votes, recipes, models, adapters, packages, manifests.

    python tests/fuzzing.py TARGET NUMBER

repeats one case in a new folder, which stays, with its traceback. A case is made by its number alone. Whatever it is:
nothing but TiebreakError is raised (or the system's error on a named file, such as a name too long), it ends within SECONDS and MEMORY, what stands outside of its folder stays as it
is, and what its target says holds (fuzz_votes.py, fuzz_folders.py).
"""

import json
import os
import resource
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import chdir, contextmanager
from pathlib import Path
from random import Random
from tempfile import mkdtemp
from typing import Any

from tiebreak.errors import TiebreakError

SECONDS = 60
"""A case takes milliseconds, a model some hundred of them; a busy machine is slow."""
MEMORY = 6 << 30
"""Bytes of address space beyond what the process has."""

Target = Callable[[Random, Path], bool]
"""Makes a case in an empty folder and looks at it; returns whether it could be read at all. May raise TiebreakError."""

SCRAPS = b""" " ' , "" "," { } [ ] \\u null PAR1 1e999 NaN """.split()
SCRAPS += [b"\n", b"\r", b"\0", b"\xff", b"\xef\xbb\xbf", b"\xc3", b"  ", b"\xe2\x80\xa8"]
ODD: list[Any] = [
    None, True, -1, 0, 1, 0.5, 1e999, float("nan"), 10**9, 2**64, "", "x", "../..", "/", "\0", "\ud83d", "a" * 5000,
    [], {}, [[]], [None], [0], ["x"], {"x": 1}, {"": None},
]  # fmt: skip
"""Values that something else is expected in place of."""


class Hang(BaseException):
    """The end of a case that took too long; no handler of errors catches it."""


def damage(content: bytes, random: Random) -> bytes:
    """One damage of a random kind at a random place; half of them near the beginning, where headers are."""
    if not content:
        return random.choice(SCRAPS)
    at = random.randrange(len(content) if random.random() < 0.5 else min(len(content), 400))
    end = min(len(content), at + random.choice((1, 2, 10, 100, 1000)))
    kind = random.randrange(6)
    if kind == 0:
        return content[:at] + bytes([content[at] ^ 1 << random.randrange(8)]) + content[at + 1 :]
    if kind == 1:
        return content[:at] + content[end:]
    if kind == 2:
        return content[:at]
    if kind == 3:
        return content[:at] + random.choice(SCRAPS) + content[at:]
    if kind == 4:
        return content[:at] + content[at:end] * 2 + content[end:]
    return content[:at] + random.randbytes(end - at) + content[end:]


def change(tree: Any, random: Random) -> Any:
    """A copy of plain values with one of them, anywhere in the tree, odd, gone, or under another key."""
    tree = json.loads(json.dumps(tree))
    places = list(_places(tree))
    if not places:
        return random.choice(ODD)
    inside, key = random.choice(places)
    kind = random.randrange(4)
    if kind == 0:
        del inside[key]
    elif kind == 1 and isinstance(inside, dict):
        inside[random.choice(("x", "", str(key) + "s", str(key)[:-1]))] = inside.pop(key)
    else:
        inside[key] = random.choice(ODD)
    return tree


def _places(tree: Any) -> Iterator[tuple[Any, Any]]:
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in items:
        yield tree, key
        yield from _places(value)


def damage_file(file: Path, random: Random) -> None:
    """Damage a file; one of JSON, half of the time, by one of its values."""
    if file.suffix == ".json" and random.random() < 0.5:
        file.write_text(json.dumps(change(json.loads(file.read_text()), random)))
        return
    content = file.read_bytes()
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        content = damage(content, random)
    file.write_bytes(content)


def targets() -> dict[str, Target]:
    import fuzz_folders
    import fuzz_votes

    return {**fuzz_votes.TARGETS, **fuzz_folders.TARGETS}


def run(name: str, numbers: Iterable[int], place: Path) -> int:
    """Run cases of a target; returns how many could be read. Raises AssertionError with the command that repeats one."""
    target, readable = targets()[name], 0
    for number in numbers:
        folder = place / f"{name}-{number}"
        try:
            readable += case(target, Random(f"{name} {number}"), folder)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            again = f"python tests/fuzzing.py {name} {number}"
            raise AssertionError(
                f"case {number} of {name}: {type(error).__name__}: {error}; repeat it: {again}"
            ) from error
    return readable


def case(target: Target, random: Random, folder: Path) -> bool:
    """Run one case beside a canary, from the canary's folder; returns whether it could be read."""
    canary = folder / "canary"
    (canary / "inner").mkdir(parents=True)
    for n, file in enumerate((canary / "votes.csv", canary / "inner" / "manifest.json")):
        file.write_text(f"untouched {n}")
    (canary / "link").symlink_to("inner/manifest.json")
    (folder / "case").mkdir()
    before = _state(folder)
    with chdir(canary), _limits():
        try:
            readable = target(random, folder / "case")
        except OSError as error:
            if not error.filename:  # else the command line names the file and the reason
                raise
            readable = False
        except TiebreakError as error:
            readable = False
            if not str(error).strip():
                raise AssertionError("an error without words") from error
    assert _state(folder) == before, "something outside of the case was touched"
    return readable


def _state(folder: Path) -> list[tuple[str, int, int]]:
    """Names, sizes and times of all that stands beside the case."""
    files = sorted(path for path in folder.rglob("*") if path.relative_to(folder).parts[0] != "case")
    return [(str(path), path.lstat().st_size, path.lstat().st_mtime_ns) for path in files]


@contextmanager
def _limits() -> Iterator[None]:
    def stop(*_: Any) -> None:
        raise Hang(f"longer than {SECONDS} s")

    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = resource.getrlimit(resource.RLIMIT_AS)
    handler = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY, most[1]))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
        resource.setrlimit(resource.RLIMIT_AS, most)


if __name__ == "__main__":
    os.environ["HF_HUB_OFFLINE"] = "1"
    wanted, seed = sys.argv[1:]
    place = Path(mkdtemp(prefix="tiebreak-fuzz-"))
    print(f"in {place}", file=sys.stderr)
    print("read" if case(targets()[wanted], Random(f"{wanted} {seed}"), place / "again") else "refused")
