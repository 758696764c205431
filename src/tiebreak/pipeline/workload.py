"""Workload of a task, in tokens, from the lengths of a recipe's votes and the shares of its sides."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tiebreak.recipe.schema import Recipe, Training
from tiebreak.recipe.values import Role

Lengths = NDArray[np.int64]


@dataclass(frozen=True)
class Workload:
    """The tokens that a task trains on, and those that it scores."""

    trained: float = 0.0
    scored: float = 0.0


@dataclass(frozen=True)
class VoteLengths:
    """Sorted lengths, in tokens and not truncated, of a recipe's votes. of: those of a role's files."""

    recipe: Recipe
    of: Callable[[Role], Lengths]

    def share(self, share: float) -> Lengths:
        """A share of the votes."""
        votes = self.of("votes")
        return subset(votes, round(share * len(votes)))

    @property
    def every_vote(self) -> Lengths:
        """The votes of all folds, extra ones, and pairs without votes."""
        split = self.recipe.split
        voted = self.share(1 - split.lockbox_share - split.calibration_share)
        return np.concatenate([voted, self.of("extra"), self.of("unlabelled")])

    @property
    def training_side(self) -> Lengths:
        """The votes of all folds but one, and extra ones."""
        split = self.recipe.split
        share = (1 - split.lockbox_share - split.calibration_share) * (1 - 1 / split.count)
        return np.concatenate([self.share(share), self.of("extra")])

    @property
    def held_out(self) -> Lengths:
        """A fold's held-out votes, the calibration side and the lockbox."""
        split = self.recipe.split
        aside = split.lockbox_share + split.calibration_share
        return self.share(aside + (1 - aside) / split.count)

    def scored_by(self, teachers: Iterable[str]) -> Lengths:
        """Training votes and pairs without votes that all of these teachers score."""
        logits = self.recipe.logits
        counts = [logits.subset_votes_of.get(name, logits.subset_votes) for name in teachers]
        means = [int(np.mean(count)) for count in counts]
        fewest = min((mean for mean in means if mean >= 0), default=-1)
        return np.concatenate([subset(self.training_side, fewest), self.of("unlabelled")])


def subset(lengths: Lengths, count: int) -> Lengths:
    """An evenly spaced subset of sorted lengths; all if count is negative or too large."""
    if count < 0 or count >= len(lengths):
        return lengths
    chosen: Lengths = lengths[np.linspace(0, len(lengths), count, endpoint=False).astype(int)]
    return chosen


def tokens(lengths: Lengths, budget: int) -> float:
    """Tokens of pairs in one order, each truncated to the budget."""
    return float(np.minimum(lengths, budget).sum())


def training_tokens(lengths: Lengths, training: Training) -> float:
    """Tokens of a training: both orders, all epochs, or up to its last step."""
    rows = 2 * len(lengths) * training.epochs
    if training.max_steps >= 0:
        rows = min(rows, training.max_steps * training.rows_per_step)
    return rows * tokens(lengths, training.max_tokens) / max(len(lengths), 1)
