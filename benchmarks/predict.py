"""Prediction of files beside the scorer alone, memory as files grow, and kills.

    python benchmarks/predict.py [--block 4096] [--rounds 6] [--pairs 4000 8000 16000] [--kills 10] [--device cuda] [--write]
    python benchmarks/predict.py --many 1000000 --shards 8 [--kills 10] [--device cuda] [--write]

A tiny random judge predicts made-up pairs of about 60 tokens, so that what is not scoring shows most.

By turns, in one process that has loaded the model once for all arms: `scorer` is `Judge.predict_table` of `block` pairs in one
call, from a table in memory to an array. `jsonl`, `csv` and `parquet` are all that `tiebreak predict` does with a file of the
same pairs but load the model: JSON Lines are read and converted, by a thread ahead, scored in pieces of 2,048 that are kept on
the disk, with progress; then read again, and written with the probabilities to a file of that ending. Both make their own
tokens. Once with one thread of torch's, once with as many as it takes. `turns.py` says how they are compared.

Memory: `scorer` (of the whole table) and `jsonl` in processes of their own, with the model's loading; peak memory is what the
system says. Last, `predict` of the middle size is killed at random moments and started again; its output is compared with that
of an undisturbed one. --many: that many pairs instead, by shards in processes of their own, undisturbed and, beside it, with a
shard killed at random moments and started again; peak memory is that of the largest process, for the scorer of an eighth of the
pairs too. Prints tables, then one line of JSON; --write keeps all under benchmarks/results.
"""

import argparse
import json
import os
import platform
import random
import resource
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from functools import partial
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

from machine import processor, table

from tiebreak.hashes import file_digest

RESULTS = Path(__file__).parent / "results"
ENDINGS = ("jsonl", "csv", "parquet")
TURNS = ("arm", "threads", "blocks", "cpu_us", "cpu_more_%", "wall_us", "wall_more_%")
COLUMNS = ("arm", "pairs", "seconds", "pairs_per_s", "peak_gib", "kills")
QUIET: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
WORDS = (
    "the of and to in is that for it as was with be by on not he this are or his from at which but".split()
)


def write_pairs(file: Path, count: int) -> None:
    """Pairs with columns of their own."""
    draw = random.Random(0)
    with file.open("w", encoding="utf-8") as lines:
        for n in range(count):
            texts = (" ".join(draw.choices(WORDS, k=draw.randrange(4, 24))) for _ in range(3))
            prompt, a, b = texts
            row = {"uid": n, "prompt": prompt, "response_a": a, "response_b": b, "meta": {"source": n % 7}}
            lines.write(json.dumps(row) + "\n")


def write_judge(folder: Path) -> None:
    """A random tiny model with a score head, packaged as a run would."""
    import torch

    from tiebreak.judge import package
    from tiebreak.model import classifier, merge, tiny
    from tiebreak.recipe.schema import Prompt, Tta

    tiny.make(folder / "bare", "gemma2", [" ".join(WORDS)] * 50)
    judge = classifier.load(folder / "bare", device="cpu")
    judge.model.score.weight.data.normal_(std=0.5, generator=torch.Generator().manual_seed(0))
    merge.save(judge, folder / "model")
    shipped = package.Package(prompt=Prompt(), tta=Tta(max_tokens=256), calibration={"temperature": 1.0})
    package.write(shipped, folder / "model")


def measure(arm: str, model: Path, pairs: Path, output: Path, device: str) -> dict[str, Any]:
    """Seconds from a loaded model (of `predict`: with its loading) and peak memory of this process."""
    from tiebreak.commands.predict import Request, predict
    from tiebreak.judge.inputs import as_table
    from tiebreak.judge.judge import load_judge

    start = time.perf_counter()
    if arm == "scorer":
        (table, _), judge = as_table(pairs), load_judge(model, device)
        start = time.perf_counter()
        count = len(judge.predict_table(table))
    else:
        count = predict(Request([model], [pairs], output.with_suffix(f".{arm}"), device=device)).rows
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {"pairs": count, "seconds": round(seconds, 2), "peak_gib": round(peak, 3)}


def run(arm: str, folder: Path, count: int, device: str) -> dict[str, Any]:
    command = [sys.executable, __file__, "--measure", arm, str(folder), str(count), "--device", device]
    done = subprocess.run(command, check=True, **QUIET)
    row = {"arm": arm, **json.loads(done.stdout.splitlines()[-1])}
    return row | {"pairs_per_s": round(row["pairs"] / row["seconds"])}


def compare(folder: Path, block: int, rounds: int, device: str) -> list[dict[str, Any]]:
    """The arms by turns in this process."""
    import torch
    from turns import by_turns

    from tiebreak.commands.predict import Request, predict
    from tiebreak.hardware.allocator import keep_memory
    from tiebreak.judge import judge
    from tiebreak.judge.inputs import as_table

    keep_memory()  # as the command does
    pairs, loaded = folder / f"{block}.jsonl", judge.load_judge(folder / "model", device)
    table, _ = as_table(pairs)

    def command(ending: str) -> None:
        output = folder / f"turn.{ending}"
        output.unlink(missing_ok=True)
        predict(Request([folder / "model"], [pairs], output, device=device))

    with patch.object(judge, "load_judge", lambda *_: loaded):
        arms = {ending: partial(command, ending) for ending in ENDINGS}
        rows = by_turns(partial(loaded.predict_table, table), arms, rounds, block)
    return [row | {"threads": torch.get_num_threads()} for row in rows]


def in_turns(folder: Path, block: int, rounds: int, device: str) -> list[dict[str, Any]]:
    """The arms with one thread, then with torch's own number, each in a process of its own."""
    found = []
    for threads in ({"OMP_NUM_THREADS": "1"}, {}):
        environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
        command = [sys.executable, __file__, "--compare", str(folder), "--block", str(block)]
        command += ["--rounds", str(rounds), "--device", device]
        done = subprocess.run(command, env=environment | threads, check=True, **QUIET)
        found += json.loads(done.stdout.splitlines()[-1])
    return found


def command(folder: Path, count: int, output: Path, device: str) -> list[str]:
    files = [str(folder / "model"), str(folder / f"{count}.jsonl"), "-o", str(output)]
    return [sys.executable, "-m", "tiebreak", "predict", *files, "--device", device]


def kill(folder: Path, count: int, kills: int, seconds: float, device: str) -> dict[str, Any]:
    """Kill `predict` at random moments, then let it finish. Raises AssertionError if its output is another."""
    output = folder / "killed.jsonl"
    again = command(folder, count, output, device)
    draw, done = random.Random(1), 0
    while done < kills:
        process = subprocess.Popen(again, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            process.wait(draw.uniform(0, seconds))
            break  # finished between kills
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            done += 1
    subprocess.run(again, check=True, capture_output=True)
    require_same(output, folder / f"out-{count}.jsonl")
    return {"arm": "jsonl, killed", "pairs": count, "kills": done}


def require_same(output: Path, undisturbed: Path) -> None:
    assert file_digest(output) == file_digest(undisturbed), "killed, it wrote something else"


def shards(folder: Path, count: int, number: int, kills: int, device: str) -> dict[str, Any]:
    """`predict` by shards side by side; every few seconds one of them is killed and started again, `kills` times."""
    output = folder / f"shards-{kills}.jsonl"
    log = folder / f"shards-{kills}.log"

    def start(k: int) -> "subprocess.Popen[bytes]":
        again = [*command(folder, count, output, device), "--shard", f"{k + 1}/{number}"]
        with log.open("ab") as said:
            return subprocess.Popen(again, stdout=subprocess.DEVNULL, stderr=said)

    began, draw = time.perf_counter(), random.Random(2)
    running, done, peak = {k: start(k) for k in range(number)}, 0, 0
    while running:
        time.sleep(draw.uniform(2, 8))
        if done < kills:
            k = draw.choice(list(running))
            running[k].kill()
            running[k].wait()
            running[k], done = start(k), done + 1
        for k, process in list(running.items()):
            pid, status, used = os.wait4(process.pid, os.WNOHANG)
            if pid:
                assert status == 0, log.read_text()[-2000:]
                peak = max(peak, used.ru_maxrss)
                del running[k]
    seconds = time.perf_counter() - began
    return {
        "arm": f"jsonl, {number} shards{', killed' if kills else ''}",
        "pairs": count,
        "seconds": round(seconds, 1),
        "pairs_per_s": round(count / seconds),
        "peak_gib": round(peak / 2**20, 3),
        "kills": done,
    }


def by_shards(folder: Path, count: int, number: int, kills: int, device: str) -> list[dict[str, Any]]:
    """An eighth of the pairs by one process, as the measure of memory; then all, undisturbed and killed."""
    write_pairs(folder / f"{count}.jsonl", count)
    write_pairs(folder / f"{count // 8}.jsonl", count // 8)
    rows = [run(arm, folder, count // 8, device) for arm in ("scorer", "jsonl")]
    with ThreadPoolExecutor(2) as threads:
        rows += threads.map(lambda k: shards(folder, count, number, k, device), (0, kills))
    require_same(folder / f"shards-{kills}.jsonl", folder / "shards-0.jsonl")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", type=int, nargs="+", default=[4000, 8000, 16_000])
    parser.add_argument("--block", type=int, default=4096)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--many", type=int, help="pairs, by shards")
    parser.add_argument("--shards", type=int, default=8)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--compare", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.compare:
        print(json.dumps(compare(arguments.compare, arguments.block, arguments.rounds, arguments.device)))
        return
    if arguments.measure:
        arm, folder, count = arguments.measure[0], Path(arguments.measure[1]), arguments.measure[2]
        pairs, output = folder / f"{count}.jsonl", folder / f"out-{count}"
        print(json.dumps(measure(arm, folder / "model", pairs, output, arguments.device)))
        return
    with TemporaryDirectory(prefix="tiebreak-predict-") as name:
        folder, turns = Path(name), []
        write_judge(folder)
        if arguments.many:
            rows = by_shards(folder, arguments.many, arguments.shards, arguments.kills, arguments.device)
        else:
            for count in (arguments.block, *arguments.pairs):
                write_pairs(folder / f"{count}.jsonl", count)
            turns = in_turns(folder, arguments.block, arguments.rounds, arguments.device)
            rows = [
                run(arm, folder, count, arguments.device)
                for count in arguments.pairs
                for arm in ("scorer", "jsonl")
            ]
            middle = len(arguments.pairs) // 2
            seconds = rows[2 * middle + 1]["seconds"]
            rows.append(
                kill(folder, arguments.pairs[middle], arguments.kills, 10 + seconds / 3, arguments.device)
            )
    about = {
        "benchmark": "predict",
        "date": date.today().isoformat(),
        "processor": processor(),
        "cores": os.cpu_count(),
        "load average": [round(load, 1) for load in os.getloadavg()],
        "python": platform.python_version(),
        **{package: version(package) for package in ("torch", "transformers", "pyarrow")},
    }
    shown = "\n\n".join([table(TURNS, turns)] * bool(turns) + [table(COLUMNS, rows)])
    line = json.dumps(about | {"turns": turns, "rows": rows})
    print(shown, line, sep="\n\n")
    if arguments.write:
        name = f"predict{'-many' if arguments.many else ''}-{arguments.device}-202611"
        (RESULTS / f"{name}.json").write_text(line + "\n", encoding="utf-8")
        (RESULTS / f"{name}.md").write_text(page(shown, about), encoding="utf-8")


def page(shown: str, about: dict[str, Any]) -> str:
    facts = "\n".join(f"- {name}: {value}" for name, value in about.items())
    return f"# Prediction of files\n\n    python benchmarks/predict.py {' '.join(sys.argv[1:])}\n\n{facts}\n\n{shown}\n"


if __name__ == "__main__":
    main()
