"""What the benchmarks by simulation share: arms in every setting of prompts and votes, a table, a line, a page."""

import argparse
import json
import os
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from machine import processor

import tiebreak

MIXED = 0
"""Votes on each prompt where their number differs."""

Row = dict[str, Any]
Arm = Callable[[int, int, int], Iterator[Row]]
"""Rows of a number of worlds, prompts, and votes on each."""
Settings = Sequence[tuple[int, int]]


def run(
    doc: str, result: Path, arms: Sequence[Arm], settings: Settings, worlds: int, tiny: tuple[tuple[int, int], int],
    page: Callable[[str, Row], str], unit: str = "per_cent",
) -> None:  # fmt: skip
    """The command of a benchmark: print tables, then one line of JSON, and with --write keep both at `result`.

    tiny: the one setting and the number of worlds of --small. unit: the key of a row's value.
    """
    arguments = argparse.ArgumentParser(description=doc.splitlines()[0])
    arguments.add_argument(
        "--small", action="store_true", help="one small setting, whose figures mean nothing"
    )
    arguments.add_argument("--worlds", type=int, default=worlds)
    arguments.add_argument("--processes", type=int, default=os.cpu_count(), help="changes no figure")
    arguments.add_argument("--write", action="store_true")
    chosen = arguments.parse_args()
    began = time.perf_counter()
    settings, worlds = ([tiny[0]], tiny[1]) if chosen.small else (settings, chosen.worlds)
    rows = _measured(arms, settings, worlds, chosen.processes)
    facts = {
        "worlds": worlds,
        "seconds": round(time.perf_counter() - began),
        "processor": f"{processor()}, {os.cpu_count()} cores",
        "python": platform.python_version(),
        "tiebreak": tiebreak.__version__,
        **{name: version(name) for name in ("numpy", "scipy")},
    }
    table = "\n\n".join(_markdown(rows, arm.__name__, settings, unit) for arm in arms)
    line = json.dumps({"benchmark": result.name.partition("-")[0], **facts, "rows": rows})
    print(table, line, sep="\n\n")
    if chosen.write:
        result.with_suffix(".json").write_text(line + "\n")
        result.with_suffix(".md").write_text(page(table, facts))


def per_cent(held: dict[str, list[bool]]) -> Iterator[Row]:
    """A row for each figure; None where no interval was shown."""
    for name, found in held.items():
        yield {"figure": name, "per_cent": 100 * float(np.mean(found)) if found else None}


def _measured(arms: Sequence[Arm], settings: Settings, worlds: int, processes: int) -> list[Row]:
    """The rows of every arm in every setting, which are measured side by side."""
    cells = [(arm.__name__, arm, worlds, prompts, votes) for arm in arms for prompts, votes in settings]
    with ProcessPoolExecutor(processes) as pool:
        return [row for rows in pool.map(_cell, *zip(*cells, strict=True)) for row in rows]


def _cell(name: str, arm: Arm, worlds: int, prompts: int, votes: int) -> list[Row]:
    return [{"arm": name, "prompts": prompts, "votes": votes, **row} for row in arm(worlds, prompts, votes)]


def _markdown(rows: Sequence[Row], arm: str, settings: Settings, unit: str) -> str:
    """An arm's table: a line a figure, a column a setting."""
    of_arm = [row for row in rows if row["arm"] == arm]
    found = {(row["figure"], row["prompts"], row["votes"]): row[unit] for row in of_arm}
    heads = (f"{prompts} x {'1 to 12' if votes == MIXED else votes}" for prompts, votes in settings)
    lines = [[arm, *heads], ["---"] * (1 + len(settings))]
    for figure in dict.fromkeys(row["figure"] for row in of_arm):
        values = (found.get((figure, *setting)) for setting in settings)
        lines.append([figure, *("none" if value is None else f"{value:.1f}" for value in values)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
