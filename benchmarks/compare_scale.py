"""Seconds and memory of analysing many comparisons of many models, once they are judged.

    python benchmarks/compare_scale.py [--comparisons N] [--models M] [--write]

Made-up comparisons of random pairs on 500 prompts, a twentieth with votes. Prints a table, then one line of JSON; --write keeps both
under benchmarks/results. Judging itself takes what `tiebreak predict` takes for as many pairs.
"""

import argparse
import json
import os
import platform
import resource
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from compare import probabilities
from machine import processor, table

import tiebreak
from tiebreak.comparison import analysis
from tiebreak.comparison.judged import SCHEMA, Judged
from tiebreak.comparison.page import page

RESULT = Path(__file__).parent / "results" / "compare-scale-cpu-202612"
PROMPTS, VOTED = 500, 0.05


def made_up(comparisons: int, models: int) -> tuple[Judged, np.ndarray, np.ndarray]:
    """Judged comparisons, with votes (n, 3) and their numbers (n,)."""
    random = np.random.default_rng(0)
    a = random.integers(0, models, comparisons)
    b = (a + random.integers(1, models, comparisons)) % models
    prompt = random.integers(0, PROMPTS, comparisons)
    strength, quality = random.normal(size=models), random.normal(size=(PROMPTS, models))
    p_NC = probabilities(strength[a] - strength[b] + quality[prompt, a] - quality[prompt, b])
    names = np.array([f"model {m}" for m in range(models)])
    columns: dict[str, Any] = dict.fromkeys(("by", "language"), np.repeat("Latin", comparisons))
    columns |= {"prompt": prompt.astype(str), "answer_a": a.astype(str), "answer_b": b.astype(str)}
    columns |= {"model_a": names[a], "model_b": names[b]}
    columns |= {f"p_{label}": p_NC[:, c] for c, label in enumerate(("a", "b", "tie"))}
    for name in SCHEMA.names:
        if name not in columns:
            columns[name] = random.integers(0, 1000, comparisons)
    drawn_N = (random.random(comparisons)[:, None] > p_NC.cumsum(axis=1)[:, :2]).sum(axis=1)
    voted_N = random.random(comparisons) < VOTED
    y_NC = np.where(voted_N[:, None], np.eye(3)[drawn_N], np.nan)
    given = pa.table({name: columns[name] for name in SCHEMA.names}, schema=SCHEMA)
    return Judged(given, tuple(names)), y_NC, voted_N.astype(np.int64)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--comparisons", type=int, default=100_000)
    arguments.add_argument("--models", type=int, default=200)
    arguments.add_argument("--write", action="store_true")
    chosen = arguments.parse_args()
    judged, y_NC, count_N = made_up(chosen.comparisons, chosen.models)
    rows: list[dict[str, Any]] = []

    def timed(what: str, work: Callable[[], Any]) -> Any:
        began, busy = time.perf_counter(), time.process_time()
        found = work()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        rows.append(
            {
                "what": what,
                "seconds": round(time.perf_counter() - began, 1),
                "CPU seconds": round(time.process_time() - busy, 1),
                "peak GiB": round(peak, 2),
            }
        )
        return found

    of_both = analysis.rows_of(judged, (y_NC, count_N))
    timed("leaderboard by the judge", lambda: analysis.leaderboard(of_both, "judge"))
    timed("leaderboard by votes and judge", lambda: analysis.leaderboard(of_both, "votes and judge"))
    timed("all, by the judge", lambda: analysis.compare(judged))
    found = timed("all, by votes and judge", lambda: analysis.compare(judged, (y_NC, count_N)))
    timed("the page", lambda: page(found, "a judge", chosen.comparisons))
    facts = {
        "benchmark": "compare-scale",
        "comparisons": chosen.comparisons,
        "models": chosen.models,
        "pairs": len(found.pairs),
        "processor": f"{processor()}, {os.cpu_count()} cores",
        "python": platform.python_version(),
        "tiebreak": tiebreak.__version__,
        **{name: version(name) for name in ("numpy", "scipy")},
    }
    shown, line = (
        table(("what", "seconds", "CPU seconds", "peak GiB"), rows),
        json.dumps({**facts, "rows": rows}),
    )
    print(shown, line, sep="\n\n")
    if chosen.write:
        RESULT.with_suffix(".json").write_text(line + "\n")
        RESULT.with_suffix(".md").write_text(text(shown, facts))


def text(shown: str, facts: dict[str, Any]) -> str:
    return f"""# Comparing many models: seconds and memory

Measured in December 2026 on {facts["processor"]}, one thread, with other work beside it; Python {facts["python"]}, NumPy
{facts["numpy"]}, SciPy {facts["scipy"]}, tiebreak {facts["tiebreak"]}. Made by

    OMP_NUM_THREADS=1 python benchmarks/compare_scale.py --write

{facts["comparisons"]:,} judged comparisons of {facts["models"]} models, {facts["pairs"]:,} pairs of them, on {PROMPTS} prompts, a twentieth with votes.
All is leaderboards by each source, strengths at equal style, every pair's rates, the judge's worth and where to vote next. Peaks are of
the whole process so far.

{shown}

Most of the time goes into pairs of models, each with rates by every source.

## Caveats

Judging is not in it: it takes what `tiebreak predict` takes for as many pairs. The machine was loaded, with 13 to 19 processes waiting for its two cores: seconds are many times those of a
machine of its own, and CPU seconds some twice. With the code of a day before, on another processor with five jobs beside it, the rows took 1.7, 1.4, 7.0, 15.7 and 0.2 CPU seconds.
"""


if __name__ == "__main__":
    main()
