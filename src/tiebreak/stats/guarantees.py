"""Guarantees from unseen votes: abstention that bounds the share of errors, prediction sets that bound the misses.

Both are thresholds on a judge's probabilities. They are fitted on one voter of each prompt group, so that these are as
independent as the groups are, and counts of theirs are all that fitting needs (`Guarantees`).

Abstention. A pair is decided where the probability of its likeliest answer is at least a threshold. Learn-then-Test
(Angelopoulos et al. 2021, arXiv:2110.01052) tests for each of CERTAINTIES whether the error among the decided is above
the maximum, by the exact binomial p-value of the wrong among the decided (Geifman and El-Yaniv 2017,
arXiv:1705.08500), from the most certain on, and stops at the first that is not rejected (fixed-sequence testing). So,
with probability CONFIDENCE over the draw of the unseen voters, the error over the population of pairs is below the maximum
at the chosen threshold. That is for probabilities that owe nothing to these voters, for a maximum that was chosen without
them, and for each maximum by itself: of several, one may fail more often.
The first certainty that is tested leaves a number of votes that depends on their total alone. Where the judge errs more
among the decided there already, this needs that it does not err less on the less certain of them.

Prediction sets. Split conformal sets of the classes that are likely enough (LAC: Sadinle, Lei and Wasserman 2019,
arXiv:1609.00451): they hold the voter's answer in at least `coverage` of cases, on average over draws of the unseen.

Dimension letters: N votes, V voters, C classes (a, b, tie), T thresholds.
"""

import math
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from tiebreak.stats.metrics import Array

CONFIDENCE = 0.95

CERTAINTIES = np.arange(100, 32, -1) / 100
"""Thresholds of abstention, the strictest first; at the last one every pair with a likeliest class is decided."""

LIKELIHOODS = np.arange(201) / 200
"""Thresholds of prediction sets."""

_HEADSTART = 4
"""The first test has this many times the votes that reject without an error: a few errors among them are no end."""


@dataclass(frozen=True)
class Guarantees:
    """Counts of unseen voters: decided, and wrong among them, by CERTAINTIES; with a label below LIKELIHOODS."""

    voters: int
    decided_T: NDArray[np.int64]
    wrong_T: NDArray[np.int64]
    below_T: NDArray[np.int64]

    @classmethod
    def fit(cls, p_NC: Array, y_NC: Array, groups_N: NDArray[np.integer], seed: int = 0) -> Self:
        """Count one voter of each group, drawn at random: a vote of the group, then a label of its soft label.

        p: the shipped probabilities (n, 3) of votes that the judge has not learned from; y: their labels, soft or not;
        groups: the number of each vote's group. The error bounded is that of a random voter's vote on a new prompt: prompts
        count alike, whatever the number of their votes.
        """
        random = np.random.default_rng(seed)
        drawn_N = random.permutation(len(p_NC))
        at_V = drawn_N[np.unique(groups_N[drawn_N], return_index=True)[1]]
        p_VC, y_VC = p_NC[at_V], y_NC[at_V]
        label_V = (random.random(len(at_V))[:, None] > y_VC.cumsum(axis=1)[:, :-1]).sum(axis=1)
        choice_V, certainty_V = decide(p_VC)
        decided_VT = certainty_V[:, None] >= CERTAINTIES
        wrong_V = choice_V != label_V
        likelihood_V = p_VC[np.arange(len(at_V)), label_V]
        return cls(
            len(at_V),
            decided_VT.sum(axis=0),
            decided_VT[wrong_V].sum(axis=0),
            (likelihood_V[:, None] < LIKELIHOODS).sum(axis=0),
        )

    def certain_from(self, max_error: float) -> float | None:
        """The certainty from which pairs are decided, so that their error is below max_error; None if none is shown.

        max_error: above 0 and below 1, else a ValueError.
        """
        from scipy.stats import binom  # which takes a second, and most judges never decide

        if not 0 < max_error < 1:
            raise ValueError(f"a maximum error is between 0 and 1, not {max_error}")
        fewest = np.ceil(
            math.log(1 - CONFIDENCE) / math.log1p(-max_error)
        )  # infinite for the smallest floats
        start = max(fewest, min(_HEADSTART * fewest, self.voters // 2))
        tested_T = np.flatnonzero(self.decided_T >= start)
        p_T = binom.cdf(self.wrong_T[tested_T], self.decided_T[tested_T], max_error)
        rejected = int(np.cumprod(p_T <= 1 - CONFIDENCE).sum())
        return float(CERTAINTIES[tested_T[rejected - 1]]) if rejected else None

    def smallest_max_error(self) -> float | None:
        """The smallest max_error, in hundredths, that these voters show; None if they show none."""
        return next((e / 100 for e in range(1, 100) if self.certain_from(e / 100) is not None), None)

    def likely_from(self, coverage: float) -> float:
        """The probability from which a class is in a prediction set; 0, all classes, where voters are too few for less."""
        missed = math.floor((self.voters + 1) * (1 - coverage) + 1e-9)
        return float(LIKELIHOODS[self.below_T < missed].max(initial=0.0))

    def to_json(self) -> dict[str, Any]:
        return {
            "voters": self.voters,
            "decided": self.decided_T.tolist(),
            "wrong": self.wrong_T.tolist(),
            "label_below": self.below_T.tolist(),
        }

    @classmethod
    def from_json(cls, state: dict[str, Any]) -> Self:
        """Read `to_json`. Raises ValueError, KeyError, TypeError or OverflowError for what it does not write."""
        counts = (np.array(state[name], np.int64) for name in ("decided", "wrong", "label_below"))
        found = cls(int(state["voters"]), *counts)
        found._check()
        return found

    def _check(self) -> None:
        rising = (self.decided_T, self.wrong_T, self.below_T)
        lengths = [len(CERTAINTIES), len(CERTAINTIES), len(LIKELIHOODS)]
        fits = [x_T.shape for x_T in rising] == [(length,) for length in lengths] and all(
            x_T[0] >= 0 and (np.diff(x_T) >= 0).all() and x_T[-1] <= self.voters for x_T in rising
        )
        if not (fits and self.voters > 0 and (self.wrong_T <= self.decided_T).all()):
            raise ValueError("no counts of unseen voters")


def decide(p_NC: Array) -> tuple[NDArray[np.int64], Array]:
    """The likeliest class of each pair and its probability, the certainty; 0 where two classes share it.

    Swapped answers swap the class and keep the certainty.
    """
    ordered_NC = np.sort(p_NC, axis=1)
    certainty_N = np.where(ordered_NC[:, -1] > ordered_NC[:, -2], ordered_NC[:, -1], 0.0)
    return p_NC.argmax(axis=1), certainty_N


def decisions(p_NC: Array, certain_from: float) -> list[int | None]:
    """The class decided for each pair (n, 3), None where its certainty is lower or its probabilities are NaN."""
    chosen = zip(*(x_N.tolist() for x_N in decide(p_NC)), strict=True)
    return [choice if certainty >= certain_from else None for choice, certainty in chosen]


def prediction_sets(p_NC: Array, likely_from: float) -> NDArray[np.bool_]:
    """A mask (n, 3) of the classes in each pair's set: those likely enough, and always the likeliest."""
    within_NC: NDArray[np.bool_] = p_NC >= np.minimum(p_NC.max(axis=1), likely_from)[:, None]
    return within_NC
