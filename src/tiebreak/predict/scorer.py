"""Score rows as fast as they pack: sorted by length, a token budget a forward.

Dimension letters: R rows (a vote in one order), C classes.
"""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from tiebreak.data.packing import by_budget, pack
from tiebreak.data.prompt import TokenizedVotes
from tiebreak.errors import TiebreakError
from tiebreak.model.classifier import Classifier


def score(
    classifier: Classifier,
    votes: TokenizedVotes,
    rows_R2: NDArray[np.int64],
    max_tokens: int,
    budget: int,
    report: Callable[..., None],
) -> NDArray[np.float32]:
    """Raw logits (R, C) of rows (vote, order), in the order the answers were shown.

    Raises TiebreakError if the score head was never trained.
    """
    if not classifier.head_trained:
        raise TiebreakError(
            "this model's score head was never trained, so its predictions mean nothing. Train it with "
            "`tiebreak run`, or give an adapter folder that holds a score head"
        )
    z_RC = np.empty((len(rows_R2), 3), dtype=np.float32)
    lengths = np.array([votes.length(vote, max_tokens) for vote in rows_R2[:, 0].tolist()])
    by_length = np.lexsort((_canonical_order(votes, rows_R2), rows_R2[:, 0], -lengths))
    classifier.model.eval()
    done = 0
    with torch.inference_mode():
        for run in by_budget(lengths[by_length].tolist(), budget):
            members = by_length[run.start : run.stop]
            batch = pack([votes.row(vote, order, max_tokens) for vote, order in rows_R2[members].tolist()])
            z_RC[members] = classifier.logits(batch.to(classifier.device)).cpu().numpy()
            done += len(members)
            report("scoring", done, len(rows_R2), "rows")
    return z_RC


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
