"""Load balancing of a step's rows over processes: similar numbers of tokens, equal numbers of forwards if sharded."""

import heapq
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import torch

from tiebreak import distributed
from tiebreak.training.rows import Batch, Rows


def rows_of_rank(rows: Rows, length: Callable[[int], int], rank: int, size: int) -> Rows:
    """The rows of one of `size` processes, in their order; the rows of a vote stay together.

    length: tokens of a vote's row. Longest votes first, each to the process with the least load (Graham 1969).
    A process may get none.
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


def equalize_batch_counts(batches: list[Batch], spare: Iterator[Batch]) -> list[Batch]:
    """Pad the batches to the largest number of any process, where sharded forwards run in step.

    Padding batches have weight 0: the last batch again, or one of `spare` where there is none.
    """
    if not distributed.is_sharded():
        return batches
    (most,) = distributed.all_reduce_max(len(batches))
    lacking = int(most) - len(batches)
    if not lacking:
        return batches
    packed, targets = batches[-1] if batches else next(spare)
    weightless = replace(targets, weights_R=torch.zeros(len(targets.labels_RC)))
    return [*batches, *[(packed, weightless)] * lacking]
