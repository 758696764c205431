"""Arms in one process by turns, a reference between them: what a machine that others use leaves to be told.

Its speed changes from second to second. Blocks of work that follow one another see much the same of it, so each is divided by
the mean of the reference before and after it. CPU seconds are those of the process with all its threads, which others on the
machine change less than the time that passes.
"""

import time
from collections.abc import Callable, Mapping
from itertools import pairwise
from statistics import median
from typing import Any

from scipy.stats import quantile_test

Block = tuple[float, float]
"""The seconds of a block of work: CPU, passed."""


def timed(work: Callable[[], object]) -> Block:
    start = time.process_time(), time.perf_counter()
    work()
    return time.process_time() - start[0], time.perf_counter() - start[1]


def by_turns(
    reference: Callable[[], object], arms: Mapping[str, Callable[[], object]], rounds: int, items: int
) -> list[dict[str, Any]]:
    """Each arm's microseconds an item (medians), and how much more that is than the reference takes, in per cent: the median
    of the pairs and its exact 95 % interval, by order statistics.

    Each is done once before, for what is set up at first. rounds: at least 6. items: in a block.
    """
    for work in (reference, *arms.values()):
        work()
    references, blocks = [timed(reference)], []
    for _ in range(rounds):
        for work in arms.values():
            blocks.append(timed(work))
            references.append(timed(reference))
    rows = [{"arm": "scorer", "blocks": len(references), **_microseconds(references, items)}]
    between = [
        (sum(cpus) / 2, sum(walls) / 2)
        for cpus, walls in (zip(*two, strict=True) for two in pairwise(references))
    ]
    for n, name in enumerate(arms):
        own, beside = blocks[n :: len(arms)], between[n :: len(arms)]
        row = {"arm": name, "blocks": rounds, **_microseconds(own, items)}
        for k, what in enumerate(("cpu", "wall")):
            more = [100 * (one[k] / other[k] - 1) for one, other in zip(own, beside, strict=True)]
            low, high = quantile_test(more, q=0, p=0.5).confidence_interval()
            row[f"{what}_more_%"] = f"{median(more):+.1f} ({low:+.1f} to {high:+.1f})"
        rows.append(row)
    return rows


def _microseconds(blocks: list[Block], items: int) -> dict[str, int]:
    cpu, wall = (round(median(seconds) / items * 1e6) for seconds in zip(*blocks, strict=True))
    return {"cpu_us": cpu, "wall_us": wall}
