"""Growth of the time and memory of `tiebreak check` with the rows of files that are hard to read or to compare.

    python benchmarks/growth.py [--case NAME] [--small] [--write]

Each case has three sizes, each two or four times the one before, and each size a process of its own, whose peak
memory is what the system says. check reads the files, groups their near-duplicates and makes the data card, which is
what ingest and split do too. growth is the exponent of the processor seconds from one size to the next: 1 is linear, 2
is square. Prints a table, then one line of JSON; --write keeps both under benchmarks/results.
"""

import argparse
import json
import math
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import date
from importlib.metadata import version
from itertools import chain, pairwise, repeat
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

from machine import processor, table

RESULT = Path(__file__).parent / "results" / "growth-cpu-202611"
SEED = 0
LONG = 5000
"""Characters of a long prompt."""
IN_A_FILE = 2
"""Rows of each file of a folder of many."""

COLUMNS = ("case", "rows", "file_mib", "groups", "seconds", "cpu_seconds", "peak_gib", "growth")
Row = dict[str, str]


class Texts:
    """Random words, of a vocabulary as large as that of chats."""

    def __init__(self) -> None:
        self.random = Random(SEED)
        self.vocabulary = [
            "".join(self.random.choices("etaoinshrdlucm", k=self.random.randrange(2, 9))) for _ in range(3000)
        ]

    def words(self, count: int) -> str:
        return " ".join(self.random.choices(self.vocabulary, k=count))

    def row(self, n: int, prompt: str = "", models: int = 20) -> Row:
        sides = {f"model_{side}": f"model-{self.random.randrange(models)}" for side in "ab"}
        answers = {f"response_{side}": self.words(20) for side in "ab"}
        winner = self.random.choice(("model_a", "model_b", "tie"))
        return {"id": str(n), "prompt": prompt or self.words(9), **answers, **sides, "winner": winner}

    def changed(self, text: str, places: int) -> str:
        """The text with three letters changed in some places."""
        for _ in range(places):
            at = self.random.randrange(len(text))
            text = f"{text[:at]}{''.join(self.random.choices('bfgjkpqvwxyz', k=3))}{text[at + 3 :]}"
        return text[:LONG]


def lines(rows: Iterator[Row]) -> Iterator[str]:
    return (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def write(path: Path, pieces: Iterator[str]) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.writelines(pieces)


def long_prompts(texts: Texts, rows: int, folder: Path, places: int) -> None:
    base = texts.words(LONG // 3)[:LONG]
    write(folder / "v.jsonl", lines(texts.row(n, texts.changed(base, places)) for n in range(rows)))


def copies(texts: Texts, rows: int, folder: Path) -> None:
    """Long prompts that are nearly the same, all of one group."""
    long_prompts(texts, rows, folder, places=10)


def near_misses(texts: Texts, rows: int, folder: Path) -> None:
    """Long prompts just too different to be the same, each a group of its own."""
    long_prompts(texts, rows, folder, places=60)


def many_files(texts: Texts, rows: int, folder: Path) -> None:
    for n in range(0, rows, IN_A_FILE):
        write(folder / f"{n}.jsonl", lines(map(texts.row, range(n, n + IN_A_FILE))))


def one_line_array(texts: Texts, rows: int, folder: Path) -> None:
    separated = chain.from_iterable(
        zip(chain("[", repeat(",")), map(json.dumps, map(texts.row, range(rows))), strict=False)
    )
    write(folder / "v.json", chain(separated, "]"))


def combining_marks(texts: Texts, rows: int, folder: Path) -> None:
    """A hundred marks on each letter of every prompt."""
    prompts = (texts.words(1) + "".join(c + "\u0301\u0323" * 50 for c in texts.words(2)) for _ in range(rows))
    write(folder / "v.jsonl", lines(texts.row(n, prompt) for n, prompt in enumerate(prompts)))


def marks_on_one_letter(texts: Texts, rows: int, folder: Path) -> None:
    """One prompt with a thousand marks for each row, all on one letter, beside a single other row."""
    prompts = (texts.words(9), "a" + "\u0301\u0323" * (500 * rows))
    write(folder / "v.jsonl", lines(texts.row(n, prompt) for n, prompt in enumerate(prompts)))


def model_names(texts: Texts, rows: int, folder: Path) -> None:
    """About as many names of models as rows."""
    write(folder / "v.jsonl", lines(texts.row(n, models=rows) for n in range(rows)))


def equal_rows(texts: Texts, rows: int, folder: Path) -> None:
    row = texts.row(0)
    del row["id"]
    write(folder / "v.jsonl", lines(repeat(row, rows)))


CASES: dict[str, tuple[Callable[[Texts, int, Path], None], tuple[int, int, int]]] = {
    "long prompts, near-duplicates": (copies, (2000, 4000, 8000)),
    "long prompts, near misses": (near_misses, (2000, 4000, 8000)),
    "a folder of files of two rows": (many_files, (2000, 8000, 32_000)),
    "one-line JSON array": (one_line_array, (25_000, 100_000, 400_000)),
    "100 combining marks a letter": (combining_marks, (2500, 10_000, 40_000)),
    "1,000 marks a row, on one letter": (marks_on_one_letter, (100, 1000, 10_000)),
    "a model name a row": (model_names, (10_000, 40_000, 160_000)),
    "equal rows": (equal_rows, (25_000, 100_000, 400_000)),
}


def measure(folder: Path) -> dict[str, float]:
    """Seconds, processor seconds and peak memory (GiB) of this process, which checks a folder."""
    from tiebreak.data_card.card import build_card

    start, busy = time.perf_counter(), time.process_time()
    card = build_card({"votes": [folder]})
    return {
        "votes": card.votes,
        "groups": card.groups,
        "seconds": round(time.perf_counter() - start, 2),
        "cpu_seconds": round(time.process_time() - busy, 2),
        "peak_gib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 3),
    }


def run(case: str, rows: int) -> dict[str, Any]:
    """Measure one size of a case in a process of its own."""
    with TemporaryDirectory(prefix="tiebreak-growth-") as folder:
        CASES[case][0](Texts(), rows, Path(folder))
        size = sum(file.stat().st_size for file in Path(folder).iterdir())
        command = [sys.executable, __file__, "--measure", folder]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        return {"case": case, "rows": rows, "file_mib": round(size / 2**20, 1), **json.loads(done.stdout)}


def with_growth(sizes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The sizes of a case with the exponent of their processor time from the one before."""
    for small, large in pairwise(sizes):
        times = math.log(max(large["cpu_seconds"], 0.01) / max(small["cpu_seconds"], 0.01))
        large["growth"] = round(times / math.log(large["rows"] / small["rows"]), 2)
    return sizes


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--small", action="store_true", help="a hundredth of the rows")
    parser.add_argument("--case", default="", help="only cases with this in their name")
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.write and (arguments.small or arguments.case):
        parser.error("--write keeps every case at its full size: leave out --small and --case")
    if arguments.measure:
        print(json.dumps(measure(arguments.measure)))
        return
    rows = [
        row
        for case, (_, sizes) in CASES.items()
        if arguments.case in case
        for row in with_growth([run(case, n // 100 if arguments.small else n) for n in sizes])
    ]
    about = {
        "benchmark": "growth",
        "date": date.today().isoformat(),
        "processor": processor(),
        "versions": {name: version(name) for name in ("pyarrow", "numpy", "scipy")}
        | {"python": platform.python_version()},
    }
    text, line = table(COLUMNS, rows), json.dumps(about | {"rows": rows})
    print(text, line, sep="\n\n")
    if arguments.write:
        versions = ", ".join(f"{name} {number}" for name, number in about["versions"].items())
        caveats = (
            f"{about['processor']}, one process at a time, {about['date']}, {versions}; "
            "`python benchmarks/growth.py --write`. Other work on the same cores makes seconds more than they need be; "
            "processor seconds, of which growth is computed, hardly. Below a second what "
            "every check does counts. Of long prompts each meets some hundred others, fewer where there are fewer."
        )
        RESULT.with_suffix(".md").write_text(f"# Growth\n\n{__doc__}\n{text}\n\n{caveats}\n")
        RESULT.with_suffix(".json").write_text(line + "\n")


if __name__ == "__main__":
    main()
