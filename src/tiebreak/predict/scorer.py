"""Score rows as fast as they pack: sorted by length, a token budget a forward.

Dimension letters: R rows (a vote in one order), C classes.
"""

from collections import deque
from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from tiebreak import distributed
from tiebreak.data.ahead import ahead
from tiebreak.data.packing import Packed, batches
from tiebreak.data.prompt import TokenizedVotes
from tiebreak.errors import TiebreakError
from tiebreak.model.budget import less, too_much
from tiebreak.model.check import check
from tiebreak.model.classifier import Classifier
from tiebreak.model.gpu import ToHost

CHUNK = 32768
"""Rows that are turned into tokens and packed at a time. The last forward of each is short: a shape to compile."""


def score(
    classifier: Classifier,
    votes: TokenizedVotes,
    rows_R2: NDArray[np.int64],
    max_tokens: int,
    budget: int,
    report: Callable[..., None],
) -> NDArray[np.float32]:
    """Raw logits (R, C) of rows (vote, order), in the order the answers were shown.

    A single process whose card is too small for the budget goes on with half of it. Raises TiebreakError if the
    score head was never trained, or a forward takes more memory than the card has.
    """
    if not classifier.head_trained:
        raise TiebreakError(
            "this model's score head was never trained, so its predictions mean nothing. Train it with "
            "`tiebreak run`, or give an adapter folder that holds a score head"
        )
    z_RC, mine_R = np.zeros((len(rows_R2), 3), dtype=np.float32), np.zeros(len(rows_R2), dtype=bool)
    lengths = np.array([votes.length(vote, max_tokens) for vote in rows_R2[:, 0].tolist()])
    by_length = np.lexsort((_canonical_order(votes, rows_R2), rows_R2[:, 0], -lengths))
    classifier.model.eval()
    check(classifier, budget, training=False)
    done = 0
    with torch.no_grad():
        while True:
            left = by_length[~mine_R[by_length]]
            made = _batches(classifier, votes, rows_R2, left, max_tokens, budget)
            try:
                for members, z in _logits(classifier, _own(made)):
                    z_RC[members] = z.get()[: len(members)].numpy()
                    mine_R[members] = True
                    done = min(done + len(members) * distributed.size(), len(rows_R2))
                    report("scoring", done, len(rows_R2), "rows")
                break
            except torch.cuda.OutOfMemoryError:
                if distributed.size() > 1:  # the others go through the same batches
                    raise too_much(budget, "score_tokens") from None
                budget = less(budget, int(lengths.max()), "score_tokens")
    return distributed.join_rows(torch.from_numpy(z_RC), torch.from_numpy(mine_R)).numpy()


def _own(made: Iterator[tuple[NDArray[np.int64], Packed]]) -> Iterator[tuple[NDArray[np.int64], Packed]]:
    """This process's batches, the very ones of a single process dealt in turn.

    Where forwards must be in step, one whose turn does not come in the last round runs a batch for nobody.
    """
    count, members, packed = 0, None, None
    for count, (members, packed) in enumerate(made, 1):
        if (count - 1) % distributed.size() == distributed.rank():
            yield members, packed
    left_out = 0 < count % distributed.size() <= distributed.rank()
    if distributed.shards() and left_out and members is not None and packed is not None:
        yield members[:0], packed


def _batches(
    classifier: Classifier,
    votes: TokenizedVotes,
    rows_R2: NDArray[np.int64],
    by_length: NDArray[np.int64],
    max_tokens: int,
    budget: int,
) -> Iterator[tuple[NDArray[np.int64], Packed]]:
    """Packed batches, and which rows are in them."""
    for start in range(0, len(by_length), CHUNK):
        rows = by_length[start : start + CHUNK]
        documents = [votes.row(vote, order, max_tokens) for vote, order in rows_R2[rows].tolist()]
        for members, packed in batches(documents, budget, classifier.fixed):
            yield rows[members], packed.pinned() if classifier.on_gpu else packed


def _logits(
    classifier: Classifier, made: Iterator[tuple[NDArray[np.int64], Packed]]
) -> Iterator[tuple[NDArray[np.int64], ToHost]]:
    """The logits of each batch. A GPU gets the next batch before those of the last are read."""
    coming: deque[tuple[NDArray[np.int64], ToHost]] = deque()
    for members, packed in ahead(made) if classifier.on_gpu else made:
        coming.append((members, ToHost(classifier.logits(packed.to(classifier.device)))))
        if len(coming) > classifier.on_gpu:
            yield coming.popleft()
    yield from coming


def _canonical_order(votes: TokenizedVotes, rows_R2: NDArray[np.int64]) -> NDArray[np.int64]:
    """The order each row shows, told by the answers' tokens and not by which of them is called A.

    A swapped vote then packs as the vote does, so that swapping the answers swaps the logits to the last bit.
    """
    a, b = votes.answers
    is_later = np.array(
        [a[vote].tolist() > b[vote].tolist() for vote in rows_R2[:, 0].tolist()], dtype=np.int64
    )
    return rows_R2[:, 1] ^ is_later


def both_orders(votes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Rows (2 N, 2) that show each vote as stored and then swapped."""
    return np.stack([np.repeat(votes, 2), np.tile([0, 1], len(votes))], axis=1)
