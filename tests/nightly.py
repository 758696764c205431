"""The nightly tests, and the page of what they found.

    make nightly

Tests with the marker `nightly` run, each of which adds figures to the file that TIEBREAK_NIGHTLY names; if all pass,
docs/nightly.md says how many there were, when, and how long they took.
"""

import json
import os
import platform
import sys
from collections.abc import Sequence
from datetime import date
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

VARIABLE = "TIEBREAK_NIGHTLY"
PAGE = Path(__file__).resolve().parents[1] / "docs" / "nightly.md"
INTRODUCTION = """# What runs at night

`make nightly` runs what takes longer than anybody waits for, and writes this page if all of it passes. Damaged files are made by
`tests/fuzzing.py`: whatever they are, they are read or refused in words, none takes a minute, no row is lost without a
reject, and nothing outside of their folder is touched. A tenth of them runs with every change. Processes are killed by SIGKILL
at random moments and started again: what they have made in the end has the hashes of an undisturbed run.
"""


def add(what: str, count: int, seconds: float, more: str = "") -> None:
    """Add a line to the page to be: how many cases of what, and how long they took."""
    if file := os.environ.get(VARIABLE):
        line = json.dumps({"what": what, "count": count, "seconds": round(seconds, 1), "more": more})
        with open(file, "a", encoding="utf-8") as figures:  # a short line: workers do not break it up
            figures.write(line + "\n")


def page(lines: Sequence[str], day: date) -> str:
    """The page of these figures, those of one kind together."""
    rows: dict[str, list[dict[str, object]]] = {}
    for found in map(json.loads, lines):
        rows.setdefault(found["what"], []).append(found)
    table = ["| | cases | minutes by the clock | |", "|---|---|---|---|"]
    for what, parts in sorted(rows.items()):
        count, seconds = (sum(part[key] for part in parts) for key in ("count", "seconds"))  # type: ignore[misc]
        more = "; ".join(dict.fromkeys(str(part["more"]) for part in parts if part["more"]))
        table.append(f"| {what} | {count:,} | {seconds / 60:.1f} | {more} |")
    versions = ", ".join(
        f"{name} {version(name)}" for name in ("torch", "transformers", "tokenizers", "pyarrow")
    )
    made = f"Last: {day.isoformat()}, Python {platform.python_version()}, {versions}."
    return "\n".join([INTRODUCTION, *table, "", made, ""])


def main() -> int:
    with TemporaryDirectory() as folder:
        figures = Path(folder) / "figures.jsonl"
        figures.touch()
        os.environ[VARIABLE] = str(figures)
        code = int(pytest.main(["-m", "nightly", *sys.argv[1:]]))
        chosen = [argument for argument in sys.argv[1:] if argument.startswith("tests/")]
        if code == 0 and not chosen:
            PAGE.write_text(page(figures.read_text().splitlines(), date.today()), encoding="utf-8")
    return code


if __name__ == "__main__":
    sys.exit(main())
