"""Batched scoring of rows: packed by length, with a token budget per forward.

Dimension letters: R rows (a vote in one order), C classes.
"""

from collections import deque
from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from tiebreak import distributed
from tiebreak.errors import TiebreakError
from tiebreak.model.classifier import Classifier
from tiebreak.model.fast.compile import ToHost
from tiebreak.model.fast.kernel_check import check
from tiebreak.model.memory_budget import halve_budget, out_of_memory_error
from tiebreak.tokens.packing import Packed, batches
from tiebreak.tokens.prefetch import prefetch
from tiebreak.tokens.prompt import TokenizedVotes

CHUNK = 32768
"""Rows tokenized and packed at a time. The last forward of each chunk is short, another shape to compile."""


def score(
    classifier: Classifier,
    votes: TokenizedVotes,
    rows_R2: NDArray[np.int64],
    max_tokens: int,
    budget: int,
    report: Callable[..., None],
) -> NDArray[np.float32]:
    """Raw logits (R, C) of rows (vote, order), in the order the answers were shown.

    A single process that runs out of memory continues with half of the budget. Raises TiebreakError if the
    score head was never trained, or a forward takes more memory than the card has.
    """
    if not classifier.head_trained:
        raise TiebreakError(
            "this model's score head was never trained, so its predictions mean nothing. Train it with "
            "`tiebreak run`, or give an adapter folder that holds a score head"
        )
    rows_R2, row_R = _distinct(votes, rows_R2)
    z_RC, scored_R = np.zeros((len(rows_R2), 3), dtype=np.float32), np.zeros(len(rows_R2), dtype=bool)
    lengths_R = votes.frame_tokens + votes.kept_lengths(max_tokens).sum(axis=1)[rows_R2[:, 0]]
    by_length = np.lexsort((_canonical_order(votes, rows_R2), rows_R2[:, 0], -lengths_R))
    classifier.model.eval()
    check(classifier, budget, training=False)
    done = 0
    with torch.no_grad():
        while True:
            remaining = by_length[~scored_R[by_length]]
            all_batches = _batches(classifier, votes, rows_R2, remaining, max_tokens, budget)
            try:
                for members, z in _logits(classifier, _own_batches(all_batches)):
                    z_RC[members] = z.get()[: len(members)].numpy()
                    scored_R[members] = True
                    done = min(done + len(members) * distributed.world_size(), len(rows_R2))
                    report("scoring", done, len(rows_R2), "rows")
                break
            except torch.cuda.OutOfMemoryError:
                if distributed.world_size() > 1:  # the other processes use the same batches
                    raise out_of_memory_error(budget, "score_tokens") from None
                budget = halve_budget(budget, int(lengths_R.max()), "score_tokens")
    return distributed.join_rows(torch.from_numpy(z_RC), torch.from_numpy(scored_R)).numpy()[row_R]


def _own_batches(
    all_batches: Iterator[tuple[NDArray[np.int64], Packed]],
) -> Iterator[tuple[NDArray[np.int64], Packed]]:
    """This process's share of the batches, which are dealt round-robin.

    Where sharded forwards must be in step, a process without a batch in the last round runs one with no rows.
    """
    count, members, packed = 0, None, None
    for count, (members, packed) in enumerate(all_batches, 1):
        if (count - 1) % distributed.world_size() == distributed.rank():
            yield members, packed
    without_batch = 0 < count % distributed.world_size() <= distributed.rank()
    if distributed.is_sharded() and without_batch and members is not None and packed is not None:
        yield members[:0], packed


def _batches(
    classifier: Classifier,
    votes: TokenizedVotes,
    rows_R2: NDArray[np.int64],
    by_length: NDArray[np.int64],
    max_tokens: int,
    budget: int,
) -> Iterator[tuple[NDArray[np.int64], Packed]]:
    """Packed batches with the numbers of their rows."""
    for start in range(0, len(by_length), CHUNK):
        rows = by_length[start : start + CHUNK]
        documents = [votes.row(vote, order, max_tokens) for vote, order in rows_R2[rows].tolist()]
        for members, packed in batches(documents, budget, classifier.fixed):
            yield rows[members], packed.pinned() if classifier.on_gpu else packed


def _logits(
    classifier: Classifier, all_batches: Iterator[tuple[NDArray[np.int64], Packed]]
) -> Iterator[tuple[NDArray[np.int64], ToHost]]:
    """The logits of each batch. A GPU starts the next batch before those of the last are read."""
    pending: deque[tuple[NDArray[np.int64], ToHost]] = deque()
    for members, packed in prefetch(all_batches) if classifier.on_gpu else all_batches:
        pending.append((members, ToHost(classifier.logits(packed.to(classifier.device)))))
        if len(pending) > classifier.on_gpu:
            yield pending.popleft()
    yield from pending


def _distinct(
    votes: TokenizedVotes, rows_R2: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.intp]]:
    """The rows that differ, and the number of each row among them.

    Both orders of a vote whose answers are the same are one row: at two places of a forward its logits may differ in the last bit.
    """
    a, b = votes.answers
    is_same_N = a.lengths == b.lengths
    for vote in np.flatnonzero(is_same_N).tolist():
        is_same_N[vote] = np.array_equal(a[vote], b[vote])
    number_R = 2 * rows_R2[:, 0] + np.where(is_same_N[rows_R2[:, 0]], 0, rows_R2[:, 1])
    distinct, row_R = np.unique(number_R, return_inverse=True)
    return np.stack([distinct // 2, distinct % 2], axis=1), row_R


def _canonical_order(votes: TokenizedVotes, rows_R2: NDArray[np.int64]) -> NDArray[np.int64]:
    """The order of each row relative to the sorted answer tokens, independent of which answer is called A.

    A swapped vote then packs as the vote itself, so that swapping the answers swaps the logits to the last bit.
    """
    a, b = votes.answers
    is_swapped_N = np.array([a[vote].tolist() > b[vote].tolist() for vote in range(len(votes))], np.int64)
    return rows_R2[:, 1] ^ is_swapped_N[rows_R2[:, 0]]


def both_orders(votes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Rows (2 N, 2) of each vote as stored and then swapped."""
    return np.stack([np.repeat(votes, 2), np.tile([0, 1], len(votes))], axis=1)
