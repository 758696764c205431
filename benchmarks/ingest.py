"""Time and memory of reading and splitting votes, from a Kaggle CSV to rows with folds, at growing sizes.

    python benchmarks/ingest.py [--rows 10000 100000 1000000] [--write]

Votes are synthetic with lengths like those of arena votes (3 KB a row): prompts of random words, one in twenty
repeated, one in fifty repeated with a few letters changed. Each size runs in a process of its own, whose peak memory is what
the system says; cpu is the processor time of all its threads, which other work on the machine leaves alone.
Prints a table, then one line of JSON; --write keeps both under benchmarks/results.
"""

import argparse
import csv
import json
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

SIZES = (10_000, 100_000, 1_000_000)
RESULT = Path(__file__).parent / "results" / "ingest-cpu-202611"
HEADER = ("id", "model_a", "model_b", "prompt", "response_a", "response_b")
LABELS = ("winner_model_a", "winner_model_b", "winner_tie")
REPEATED, CHANGED = 0.05, 0.02
SEED = 0


def write_votes(path: Path, rows: int) -> None:
    """A CSV as the competition has it: JSON lists of turns, quoted newlines."""
    random = np.random.default_rng(SEED)
    letters = list("etaoinshrdlucm")
    words = ["".join(random.choice(letters, random.integers(1, 9))) for _ in range(5000)]
    text = " ".join(random.choice(words, 400_000)).replace("e ", 'e\n"é" ', 2000)
    prompts = _prompts(_fresh(words, rows, random), random)
    answers = [_pieces(text, rows, 900, 0.9, random) for _ in range(2)]
    labels = np.eye(3, dtype=int)[random.integers(3, size=rows)].tolist()
    models = random.integers(64, size=(rows, 2)).tolist()
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(HEADER + LABELS)
        votes = zip(models, zip(prompts, *answers, strict=True), labels, strict=True)
        for n, (pair, texts, label) in enumerate(votes):
            table.writerow([n, *(f"model-{m}" for m in pair), *(json.dumps([t]) for t in texts), *label])


def _pieces(text: str, rows: int, median: int, sigma: float, random: np.random.Generator) -> Iterator[str]:
    lengths = np.clip(random.lognormal(np.log(median), sigma, rows), 20, 50_000).astype(int)
    starts = (random.random(rows) * (len(text) - lengths)).astype(int)
    return (text[a:b] for a, b in zip(starts.tolist(), (starts + lengths).tolist(), strict=True))


def _fresh(words: list[str], rows: int, random: np.random.Generator) -> Iterator[str]:
    """Prompts that have no more than words in common, however many there are."""
    counts = np.clip(random.lognormal(np.log(23), 1.2, rows), 4, 10_000).astype(int)
    for count in counts.tolist():
        yield " ".join(map(words.__getitem__, random.integers(len(words), size=count).tolist()))


def _prompts(fresh: Iterator[str], random: np.random.Generator) -> Iterator[str]:
    """Fresh prompts, earlier ones again, and earlier ones with three letters changed."""
    earlier: list[str] = []
    for prompt in fresh:
        draw = random.random()
        if earlier and draw < REPEATED + CHANGED:
            prompt = earlier[random.integers(len(earlier))]
            at = random.integers(len(prompt))
            prompt = prompt if draw < REPEATED else f"{prompt[:at]}xyz{prompt[at + 3 :]}"
        earlier.append(prompt)
        yield prompt


def measure(path: Path, folder: Path) -> dict[str, float]:
    """Seconds of both steps and the peak memory of this process, in GiB."""
    from tiebreak.pipeline.steps import ingest, split
    from tiebreak.recipe.schema import Split
    from tiebreak.runtime import Runtime

    runtime = Runtime("cpu", folder)
    settings = ingest.Settings(role="votes", max_rejected_share=0)
    start = time.perf_counter()
    read = ingest.run(settings, {"files": (path,)}, folder, runtime)
    middle = time.perf_counter()
    output = folder / "split"
    output.mkdir()
    placed = split.run(split.Settings(split=Split(), seed=0), {"votes": (folder,)}, output, runtime)
    end = time.perf_counter()
    assert placed["votes"] == read["votes"] == read["records"]
    return {
        "rows": read["records"],
        "seconds": round(end - start, 2),
        "ingest_seconds": round(middle - start, 2),
        "split_seconds": round(end - middle, 2),
        "cpu_seconds": round(time.process_time(), 2),
        "groups": placed["groups"],
        "peak_gib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 3),
    }


def run(rows: int) -> dict[str, float]:
    """Measure one size in a process of its own."""
    with TemporaryDirectory(prefix="tiebreak-ingest-") as folder:
        path = Path(folder) / "votes.csv"
        write_votes(path, rows)
        command = [sys.executable, __file__, "--measure", str(path)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        return json.loads(done.stdout) | {"file_gib": round(path.stat().st_size / 2**30, 3)}


def table(results: list[dict[str, float]]) -> str:
    columns = ("rows", "file_gib", "ingest_seconds", "split_seconds", "seconds", "cpu_seconds", "peak_gib")
    lines = ["| " + " | ".join(columns) + " | cpu microseconds a row |", "|---" * (len(columns) + 1) + "|"]
    for r in results:
        cells = [f"{r[name]:,}" for name in columns] + [f"{1e6 * r['cpu_seconds'] / r['rows']:.0f}"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, nargs="+", default=SIZES)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(arguments.measure, arguments.measure.parent)))
        return
    results = [run(rows) for rows in arguments.rows]
    versions = {name: version(name) for name in ("pyarrow", "numpy")} | {"python": platform.python_version()}
    text, line = table(results), json.dumps({"benchmark": "ingest", "versions": versions, "sizes": results})
    print(text, line, sep="\n\n")
    if arguments.write:
        RESULT.parent.mkdir(exist_ok=True)
        RESULT.with_suffix(".md").write_text(f"# Reading and splitting votes\n\n{__doc__}\n{text}\n")
        RESULT.with_suffix(".json").write_text(line + "\n")


if __name__ == "__main__":
    main()
