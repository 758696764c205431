"""A step's rows over several processes: about as many tokens for each, and as many forwards where they must agree."""

import heapq
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import torch

from tiebreak import distributed
from tiebreak.train.rows import Batch, Rows


def share(rows: Rows, length: Callable[[int], int], rank: int, size: int) -> Rows:
    """The rows of one of `size` processes, in their order; the rows of a vote stay together.

    length: tokens of a vote's row. Longest votes first, each to the process that has the least (Graham 1969).
    A process may be left without any.
    """
    if size == 1:
        return rows
    votes, counts = np.unique(rows[:, 0], return_counts=True)
    costs = {vote: count * length(vote) for vote, count in zip(votes.tolist(), counts.tolist(), strict=True)}
    loads = [(0, r) for r in range(size)]
    owner = {}
    for vote in sorted(costs, key=lambda vote: (-costs[vote], vote)):
        load, least = heapq.heappop(loads)
        owner[vote] = least
        heapq.heappush(loads, (load + costs[vote], least))
    return rows[[owner[vote] == rank for vote in rows[:, 0].tolist()]]


def level(batches: list[Batch], spare: Iterator[Batch]) -> list[Batch]:
    """As many batches as the process with most of them has, where all run their forwards in step.

    What is added counts for nothing: the last batch again, or one of `spare` where there is none, of weight 0.
    """
    if not distributed.shards():
        return batches
    (most,) = distributed.most(len(batches))
    missing = int(most) - len(batches)
    if not missing:
        return batches
    packed, targets = batches[-1] if batches else next(spare)
    nothing = replace(targets, weights_R=torch.zeros(len(targets.labels_RC)))
    return [*batches, *[(packed, nothing)] * missing]
