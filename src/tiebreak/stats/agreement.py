"""Agreement on nominal labels: of people among themselves, of a judge with people, and of either with one who is left out.

An item, here a pair of answers, has a label from each of the people who voted on it. Intervals have the
standard error of the cluster bootstrap over prompts (stats.metrics.Bootstrap): Wilson's within the bounds of agreement, alpha and
kappa, Student's t of differences; coverage by simulation: benchmarks/agreement.py.

Dimension letters: I items, C classes (a, b, tie), N rows, S resamples, M means.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tiebreak.stats.metrics import CLIP, Array, Bootstrap, Estimate, targets

Ints = NDArray[np.integer]

SHARE, ABOVE_CHANCE = (0.0, 1.0), (-1.0, 1.0)
"""The bounds of agreement, and of alpha and kappa."""


@dataclass(frozen=True)
class AmongPeople:
    """Agreement of people on items with two votes or more: `agreement` is the probability that two people on one item agree."""

    items: int
    votes: int
    agreement: Estimate
    alpha: Estimate


@dataclass(frozen=True)
class TwoRaters:
    """Agreement of two raters on the same items, as a share and as Cohen's kappa."""

    items: int
    agreement: Estimate
    kappa: Estimate


@dataclass(frozen=True)
class LeaveOneOut:
    """How often one person's vote is predicted, over all votes on items with two or more, each left out in turn.

    judge: by the judge's likeliest class. person: by one of the others. majority: by the class that most of the others chose,
    equal ones sharing. less_person and less_majority: the judge's share less theirs. gain: log loss of the others' shares less
    that of the judge's probabilities, in nats, positive where the judge predicts better.
    """

    votes: int
    judge: Estimate
    person: Estimate
    majority: Estimate
    less_person: Estimate
    less_majority: Estimate
    gain: Estimate


def label_counts(item_N: Ints, label_N: Ints, items: int, classes: int = 3) -> Array:
    """The number of votes (items, classes) for each class of each item, from votes: their items (n,) and labels (n,)."""
    counts = np.bincount(item_N * classes + label_N, minlength=items * classes)
    return counts.reshape(items, classes).astype(np.float64)


def among_people(counts_IC: Array, groups_I: Ints, bootstrap: Bootstrap) -> AmongPeople | None:
    """Pairwise agreement and Krippendorff's nominal alpha of counts (items, classes); None where no item has two votes.

    Items count by their votes, as in alpha: 1 - (observed / expected disagreement), of values that can be paired
    (Krippendorff, Content Analysis, 2004, chapter 11). Alpha is 1 where all votes are for one class.
    """
    several_I = counts_IC.sum(axis=1) > 1
    counts_IC, groups_I = counts_IC[several_I], groups_I[several_I]
    votes_I = counts_IC.sum(axis=1)
    if not len(votes_I):
        return None
    votes = votes_I.sum()

    def figures(means_SM: Array) -> Array:
        agree_S, size_S, means_SC = means_SM[:, 0], means_SM[:, 1], means_SM[:, 2:]
        observed_S = agree_S / size_S
        expected_S = (votes * ((means_SC / size_S[:, None]) ** 2).sum(axis=1) - 1) / (votes - 1)
        return np.stack([observed_S, _above_chance(observed_S, expected_S)], axis=1)

    columns = np.column_stack([_pairs_that_agree(counts_IC), votes_I, counts_IC])
    agreement, alpha = bootstrap.estimates(columns, groups_I, figures, [SHARE, ABOVE_CHANCE])
    return AmongPeople(len(votes_I), int(votes), agreement, alpha)


def cohen_kappa(
    first_N: Ints, second_N: Ints, groups_N: Ints, bootstrap: Bootstrap, classes: int = 3
) -> TwoRaters:
    """Agreement and Cohen's kappa of two raters' labels (n,) of the same items.

    kappa = (observed - expected) / (1 - expected), expected from either rater's shares of the classes (Cohen, Educational and
    Psychological Measurement 20, 1960). Votes of several people may be taken for one rater, an item then coming several times.
    """
    first_NC, second_NC = targets(first_N, classes), targets(second_N, classes)

    def figures(means_SM: Array) -> Array:
        observed_S = means_SM[:, 0]
        expected_S = (means_SM[:, 1 : 1 + classes] * means_SM[:, 1 + classes :]).sum(axis=1)
        return np.stack([observed_S, _above_chance(observed_S, expected_S)], axis=1)

    columns = np.column_stack([(first_NC * second_NC).sum(axis=1), first_NC, second_NC])
    agreement, kappa = bootstrap.estimates(columns, groups_N, figures, [SHARE, ABOVE_CHANCE])
    return TwoRaters(len(first_N), agreement, kappa)


def leave_one_out(p_IC: Array, counts_IC: Array, groups_I: Ints, bootstrap: Bootstrap) -> LeaveOneOut | None:
    """Prediction of each vote by a judge's probabilities (items, classes) and by the others on its item.

    None where no item has two votes. The others' shares have one vote more, spread as all votes are, so that none is 0.
    """
    several_I = counts_IC.sum(axis=1) > 1
    p_IC, counts_IC, groups_I = p_IC[several_I], counts_IC[several_I], groups_I[several_I]
    votes_I = counts_IC.sum(axis=1)
    if not len(votes_I):
        return None
    columns = np.column_stack(
        [
            np.take_along_axis(counts_IC, p_IC.argmax(axis=1)[:, None], axis=1)[:, 0],
            _pairs_that_agree(counts_IC),
            _hits_of_majority(counts_IC),
            _gain_over_others(p_IC, counts_IC),
            votes_I,
        ]
    )

    def figures(means_SM: Array) -> Array:
        judge_S, person_S, majority_S, gain_S = (means_SM[:, :4] / means_SM[:, 4:]).T
        return np.stack(
            [judge_S, person_S, majority_S, judge_S - person_S, judge_S - majority_S, gain_S], axis=1
        )

    bounds = [SHARE, SHARE, SHARE, None, None, None]
    return LeaveOneOut(int(votes_I.sum()), *bootstrap.estimates(columns, groups_I, figures, bounds))


def _above_chance(observed_S: Array, expected_S: Array) -> Array:
    """(observed - expected) / (1 - expected), 1 where only agreement is possible."""
    possible_S = 1 - expected_S
    return np.where(
        possible_S > CLIP, (observed_S - expected_S) / np.maximum(possible_S, CLIP), (observed_S >= 1) * 1.0
    )


def _pairs_that_agree(counts_IC: Array) -> Array:
    """For each item, the sum over its votes of the share of the others that agree."""
    agree_I: Array = (counts_IC * (counts_IC - 1)).sum(axis=1) / (counts_IC.sum(axis=1) - 1)
    return agree_I


def _others(counts_IC: Array) -> Array:
    """The counts (items, classes, classes) of the other votes on an item where one of the first class is left out."""
    others_ICC: Array = counts_IC[:, None, :] - np.eye(counts_IC.shape[1])
    return others_ICC


def _hits_of_majority(counts_IC: Array) -> Array:
    """For each item, the sum over its votes of the chance that the majority of the others says the same."""
    others_ICC = _others(counts_IC)
    most_ICC = others_ICC == others_ICC.max(axis=2, keepdims=True)
    hit_IC = np.diagonal(most_ICC, axis1=1, axis2=2) / most_ICC.sum(axis=2)
    hits_I: Array = (counts_IC * hit_IC).sum(axis=1)
    return hits_I


def _gain_over_others(p_IC: Array, counts_IC: Array) -> Array:
    """For each item, the sum over its votes of log p less the log of the others' smoothed share."""
    shares_C = counts_IC.sum(axis=0) / counts_IC.sum()
    own_IC = np.diagonal(_others(counts_IC), axis1=1, axis2=2)
    share_IC = (own_IC + shares_C) / counts_IC.sum(axis=1, keepdims=True)
    gain_IC = np.log(np.maximum(p_IC, CLIP)) - np.log(np.maximum(share_IC, CLIP))
    gain_I: Array = np.where(counts_IC > 0, counts_IC * gain_IC, 0).sum(axis=1)
    return gain_I
