"""Training rows: tokens and targets of votes, divided into optimizer steps.

Dimension letters: N votes, O orders, M teachers, C classes, R rows (a vote in one order).
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from tiebreak.errors import TiebreakError
from tiebreak.recipe.schema import Training
from tiebreak.tokens.packing import Packed, batches
from tiebreak.tokens.prompt import TokenizedVotes
from tiebreak.training.losses import Targets
from tiebreak.votes.schema import probabilities, swap_answers

Rows = NDArray[np.int64]
"""(R, 2): the vote and the order it is shown in."""
Batch = tuple[Packed, Targets]


@dataclass(frozen=True)
class TrainingRows:
    """Votes with their targets, in both orders."""

    votes: TokenizedVotes
    labels_NOC: NDArray[np.float32]
    teachers_NOMC: NDArray[np.float32] | None
    max_tokens: int
    weights_N: NDArray[np.float32] | None = None

    def batches(self, rows: Rows, budget: int, fixed: bool = False) -> Iterator[Batch]:
        """The rows of one optimizer step as packed batches of at most `budget` tokens; see packing.batches."""
        documents = [self.votes.row(vote, order, self.max_tokens) for vote, order in rows.tolist()]
        for members, packed in batches(documents, budget, fixed):
            yield packed, self._targets(rows[members])

    def longest(self) -> int:
        """Tokens of the longest row."""
        return max(self.votes.length(vote, self.max_tokens) for vote in range(len(self.votes)))

    def _targets(self, rows: Rows) -> Targets:
        vote, order = rows.T
        teachers = None if self.teachers_NOMC is None else torch.from_numpy(self.teachers_NOMC[vote, order])
        weights = None if self.weights_N is None else torch.from_numpy(self.weights_N[vote])
        return Targets(torch.from_numpy(self.labels_NOC[vote, order]), teachers, weights)


def labels_of(table: pa.Table, unlabelled: bool = False) -> NDArray[np.float32]:
    """Labels (N, O, C) of a table in votes.schema.SCHEMA: as stored, and with the answers swapped.

    Raises TiebreakError if a vote has no label, unless `unlabelled` votes are allowed; they have NaN.
    """
    p_NC = probabilities(table).astype(np.float32)
    without = int(np.isnan(p_NC).any(axis=1).sum())
    if without and not unlabelled:
        raise TiebreakError(f"{without} of {len(p_NC)} votes have no label; training needs one for each")
    return np.stack([p_NC, swap_answers(p_NC)], axis=1)


def optimizer_steps(votes: int, training: Training, seed: int) -> list[Rows]:
    """The rows of every optimizer step, a function of the seed alone.

    Each epoch shows each vote in both orders, in the same step if `orders_together` is set. The last,
    smaller step of an epoch is kept.
    """
    if votes == 0:
        raise TiebreakError("there are no votes to train on")
    generator = np.random.default_rng(seed)
    steps: list[Rows] = []
    for _ in range(math.ceil(training.epochs)):
        if training.orders_together:
            rows = np.repeat(generator.permutation(votes), 2)
            rows = np.stack([rows, np.tile([0, 1], votes)], axis=1)
        else:
            rows = generator.permutation(np.stack(np.divmod(np.arange(2 * votes), 2), axis=1))
        size = training.rows_per_step + training.rows_per_step % 2 * training.orders_together
        steps += [rows[start : start + size] for start in range(0, len(rows), size)]
    count = math.ceil(len(steps) * training.epochs / math.ceil(training.epochs))
    return steps[: count if training.max_steps < 0 else min(count, training.max_steps)]
