"""A server under load: seconds to an answer, throughput beside the scorer alone, memory, and an end without loss.

    python benchmarks/serve.py [--clients 64] [--seconds 120] [--pairs 16] [--device cpu] [--write]

A tiny random judge is served on loopback by a process of its own, with all defaults. `clients` connections, all of one other
process, ask without a pause for made-up pairs of about 60 tokens, `pairs` in a request. `scorer` is `Judge.predict_table` of
4,096 such pairs in one call, from a table in memory, in a process of its own that keeps its memory as the server does. The two
take turns, since others may use the machine: a sixth of the seconds each, the scorer first and last. `of_scorer` is the median
over the turns of the server's throughput by the mean of the scorer's before and after: the server shares the cores with its
clients, which the scorer does not, unless there are two or more: then the clients have the last one to themselves, and server and
scorer, by turns, the others. `cpu_us` is a processor's time a pair, of the server's process (its /metrics) and of the
scorer's, with all their threads; `clients_cpu_us` that of the process with the clients; `of_scorer_cpu` divides the scorer's by
the server's. `stopped` is another run, whose server is sent SIGTERM halfway: lost is a request that was sent whole and
got no answer; the server's own count of judged pairs must agree with the answers. Memory is the server's resident set after the
first turn and after the last. Prints a table, then one line of JSON; --write keeps both under benchmarks/results.
"""

import argparse
import asyncio
import json
import os
import platform
import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any
from urllib.request import urlopen

from machine import processor, table
from predict import WORDS, write_judge

RESULTS = Path(__file__).parent / "results"
COLUMNS = (
    *(
        "arm",
        "clients",
        "pairs",
        "seconds",
        "requests",
        "pairs_per_s",
        "of_scorer",
        "cpu_us",
        "of_scorer_cpu",
        "clients_cpu_us",
        "p50_ms",
        "p99_ms",
    ),
    *("errors", "lost", "memory_start_mib", "memory_end_mib"),
)
TURNS = 6
CORES = sorted(os.sched_getaffinity(0))
JUDGES, CLIENTS = CORES[:-1] or CORES, CORES[-1:]
"""The cores of server and scorer, and that of the clients."""


def made_up(count: int, seed: int) -> list[dict[str, str]]:
    draw = random.Random(seed)
    names = ("prompt", "response_a", "response_b")
    return [
        {name: " ".join(draw.choices(WORDS, k=draw.randrange(4, 24))) for name in names} for _ in range(count)
    ]


def score(model: Path, device: str) -> None:
    """Print the scorer's pairs a second, and a processor's seconds a pair, for each line of standard input: how long to score."""
    from tiebreak.hardware.allocator import keep_memory
    from tiebreak.judge.inputs import as_table
    from tiebreak.judge.judge import load_judge

    keep_memory()
    judge, (pairs, _) = load_judge(model, device), as_table(made_up(4096, seed=0))
    judge.predict_table(pairs)
    for line in sys.stdin:
        start, cpu, done = time.perf_counter(), time.process_time(), 0
        while time.perf_counter() - start < float(line):
            done += len(judge.predict_table(pairs))
        print(done / (time.perf_counter() - start), (time.process_time() - cpu) / done, flush=True)


class Scorer:
    """The scorer in a process of its own, which works when it is asked to."""

    def __init__(self, model: Path, device: str) -> None:
        command = [sys.executable, __file__, "--score", str(model), "--device", device]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        self._process = subprocess.Popen(command, text=True, **pipes)  # type: ignore[call-overload]
        os.sched_setaffinity(self._process.pid, JUDGES)

    def rates(self, seconds: float) -> tuple[float, float]:
        """Pairs a second, and a processor's seconds a pair."""
        self._process.stdin.write(f"{seconds}\n")
        self._process.stdin.flush()
        wall, cpu = map(float, self._process.stdout.readline().split())
        return wall, cpu

    def close(self) -> None:
        self._process.communicate()


@dataclass
class Load:
    """What clients have seen: the status and the seconds of every answer, and the requests that got none."""

    address: tuple[str, int]
    pairs: int
    statuses: Counter[int] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    lost: int = 0

    def request(self, client: int) -> bytes:
        body = json.dumps({"pairs": made_up(self.pairs, seed=client)}).encode()
        head = "POST /v1/compare HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body

    async def client(self, number: int, until: float) -> None:
        """Ask again and again, until the time is over or nobody listens."""
        request = self.request(number)
        while time.perf_counter() < until:
            try:
                reader, writer = await asyncio.open_connection(*self.address)
            except ConnectionError:
                return
            await self._ask(reader, writer, request, until)
            writer.close()

    async def _ask(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes, until: float
    ) -> None:
        """Ask over one connection, until the server closes it."""
        kept = True
        while kept and time.perf_counter() < until:
            start = time.perf_counter()
            try:
                writer.write(request)
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                await reader.readexactly(int(re.search(rb"content-length: (\d+)", head)[1]))  # type: ignore[index]
            except (ConnectionError, asyncio.IncompleteReadError):
                self.lost += 1
                return
            self.statuses[int(head.split()[1])] += 1
            self.seconds.append(time.perf_counter() - start)
            kept = b"connection: close" not in head

    async def run(self, clients: int, seconds: float) -> None:
        until = time.perf_counter() + seconds
        await asyncio.gather(*(self.client(number, until) for number in range(clients)))

    def figures(self, seconds: float) -> dict[str, Any]:
        import numpy as np

        answered = self.statuses[200]
        p50, p99 = np.percentile(self.seconds, [50, 99]) * 1000
        return {
            "pairs": self.pairs,
            "seconds": round(seconds, 1),
            "requests": answered,
            "pairs_per_s": round(answered * self.pairs / seconds),
            "p50_ms": round(float(p50), 1),
            "p99_ms": round(float(p99), 1),
            "errors": sum(count for status, count in self.statuses.items() if status not in (200, 429)),
            "lost": self.lost,
        }


@contextmanager
def server(model: Path, device: str) -> Iterator[tuple["subprocess.Popen[str]", tuple[str, int]]]:
    """A server, and where it listens."""
    command = [sys.executable, "-m", "tiebreak", "serve", str(model), "--port", "0", "--device", device]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    os.sched_setaffinity(process.pid, JUDGES)
    try:
        assert process.stderr is not None
        while not (found := re.search(r"http://([\d.]+):(\d+)", line := process.stderr.readline())):
            assert line, "the server did not start"
        yield process, (found[1], int(found[2]))
    finally:
        process.kill()
        process.wait()


def process(address: tuple[str, int]) -> tuple[int, float]:
    """MiB of the server's resident set, and the seconds of a processor that it has used."""
    with urlopen(f"http://{address[0]}:{address[1]}/metrics") as answer:
        found = dict(
            re.findall(
                r"^process_(resident_memory_bytes|cpu_seconds_total) (\S+)$", answer.read().decode(), re.M
            )
        )
    return round(float(found["resident_memory_bytes"]) / 2**20), float(found["cpu_seconds_total"])


async def served(model: Path, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Server and scorer by turns, with memory after the first turn and the last."""
    scorer, turn = Scorer(model, arguments.device), arguments.seconds / TURNS
    with server(model, arguments.device) as (_, address):
        load, rates, memories = Load(address, arguments.pairs), [], []
        alone = [scorer.rates(turn)]
        (_, cpu), clients = process(address), time.process_time()
        for _ in range(TURNS):
            before, start = load.statuses[200], time.perf_counter()
            await load.run(arguments.clients, turn)
            rates.append((load.statuses[200] - before) * arguments.pairs / (time.perf_counter() - start))
            memories.append(process(address)[0])
            alone.append(scorer.rates(turn))
        cpu, clients = process(address)[1] - cpu, time.process_time() - clients
    scorer.close()
    walls = [wall for wall, _ in alone]
    ratios = [2 * rate / (one + other) for rate, (one, other) in zip(rates, pairwise(walls), strict=True)]
    pairs = load.statuses[200] * arguments.pairs
    scorer_cpu = median(seconds for _, seconds in alone)
    figures = {
        "of_scorer": round(median(ratios), 2),
        "cpu_us": round(cpu / pairs * 1e6),
        "of_scorer_cpu": round(scorer_cpu * pairs / cpu, 2),
        "clients_cpu_us": round(clients / pairs * 1e6),
        "memory_start_mib": memories[0],
        "memory_end_mib": memories[-1],
    }
    served = {"arm": "served", "clients": arguments.clients, **load.figures(pairs * TURNS / sum(rates))}
    return [
        {
            "arm": "scorer",
            "pairs": 4096,
            "pairs_per_s": round(median(walls)),
            "cpu_us": round(scorer_cpu * 1e6),
        },
        served | figures,
    ]


async def stopped(model: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """A run whose server is stopped halfway. Raises AssertionError if its count is another than that of the answers."""
    with server(model, arguments.device) as (process, address):
        load, start = Load(address, arguments.pairs), time.perf_counter()
        asking = asyncio.create_task(load.run(arguments.clients, arguments.seconds))
        await asyncio.sleep(arguments.seconds / 2)
        process.send_signal(signal.SIGTERM)
        await asking
        seconds = time.perf_counter() - start
        _, said = await asyncio.to_thread(process.communicate)
    assert process.returncode == 0, said
    found = re.search(r"stopped; (\d+) pairs were judged", said)
    assert found, said
    assert int(found[1]) == load.statuses[200] * arguments.pairs, f"{found[0]}, {load.statuses}"
    return {"arm": "stopped", "clients": arguments.clients, **load.figures(seconds)}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--pairs", type=int, default=16)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--score", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.score:
        score(Path(arguments.score), arguments.device)
        return
    os.sched_setaffinity(0, CLIENTS)
    with TemporaryDirectory(prefix="tiebreak-serve-") as name:
        write_judge(Path(name))
        model = Path(name) / "model"
        rows = asyncio.run(served(model, arguments))
        rows.append(asyncio.run(stopped(model, arguments)))
    about = {
        "benchmark": "serve",
        "date": date.today().isoformat(),
        "device": arguments.device,
        "processor": processor(),
        "cores": f"{len(CORES)}; of the server and of the scorer {JUDGES}, of the clients {CLIENTS}",
        "load average": [round(load, 1) for load in os.getloadavg()],
        "threads": os.environ.get("OMP_NUM_THREADS", "as many as torch takes"),
        "python": platform.python_version(),
        **{
            package: version(package)
            for package in ("torch", "transformers", "fastapi", "uvicorn", "httptools", "uvloop")
        },
    }
    shown, line = table(COLUMNS, rows), json.dumps(about | {"rows": rows})
    print(shown, line, sep="\n\n")
    if arguments.write:
        (RESULTS / f"serve-{arguments.device}-202611.json").write_text(line + "\n", encoding="utf-8")
        (RESULTS / f"serve-{arguments.device}-202611.md").write_text(page(shown, about), encoding="utf-8")


def page(shown: str, about: dict[str, Any]) -> str:
    facts = "\n".join(f"- {name}: {value}" for name, value in about.items())
    command = f"python benchmarks/serve.py {' '.join(sys.argv[1:])}"
    return f"# A server under load\n\n    {command}\n\n{facts}\n\n{CAVEATS}\n\n{shown}\n"


CAVEATS = """The clients have a core of their own where there are two or more; others that the load average counts may be on any: where
it is above 2, compare the arms by CPU time, and these roughly. The model is tiny, so that all that is not scoring shows most."""


if __name__ == "__main__":
    main()
