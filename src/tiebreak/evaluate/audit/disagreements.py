"""Disagreements of a judge with people, most surprising first, with the chance that the label is a slip.

Dimension letters: I pairs, N votes, C classes (a, b, tie).
"""

from dataclasses import asdict
from typing import Any

import numpy as np

from tiebreak.stats.agreement import label_counts
from tiebreak.stats.clustered import share
from tiebreak.stats.metrics import CLIP, Array, Bootstrap, Estimate
from tiebreak.votes.annotations import Annotations
from tiebreak.votes.schema import LABELS

UP_TO = (0.05, 0.1, 0.2)
"""Probabilities up to which a vote counts as surprising."""


def slip_rate(alpha: float | None) -> float | None:
    """The share of votes that are slips, if slips alone make people disagree: 1 - sqrt(alpha); None where alpha is not known.

    If each vote is its item's true label, or with probability e a draw from the classes' shares, two votes are both true with
    probability (1 - e)^2, and agree by chance otherwise: that probability is alpha. Where people differ in taste, e is less.
    """
    return None if alpha is None else 1 - float(np.sqrt(np.clip(alpha, 0, 1)))


def chance_of_slip(p_IC: Array, counts_IC: Array, label_I: Any, rate: float) -> Array:
    """The chance (items,) that the true label is another than `label_I`, given a judge's probabilities and the votes' counts.

    The posterior of the model in `slip_rate` with the judge as the prior, as in Dawid and Skene (Applied Statistics 28, 1979)
    with one error rate for all. One surprising vote of a confident judge is most likely a slip, three that agree are not.
    """
    shares_C = counts_IC.sum(axis=0) / max(counts_IC.sum(), 1)
    vote_CC = (1 - rate) * np.eye(len(shares_C)) + rate * shares_C  # of a vote, given the true label
    log_IC = np.log(np.maximum(p_IC, CLIP)) + counts_IC @ np.log(np.maximum(vote_CC, CLIP)).T
    posterior_IC = np.exp(log_IC - log_IC.max(axis=1, keepdims=True))
    posterior_IC /= posterior_IC.sum(axis=1, keepdims=True)
    chance_I: Array = 1 - posterior_IC[np.arange(len(posterior_IC)), label_I]
    return chance_I


def surprises(
    p_NC: Array, y_NC: Array, groups_N: np.ndarray[Any, Any], bootstrap: Bootstrap
) -> list[dict[str, Any]]:
    """For each of UP_TO: the share of votes whose probability was no more, and what it would be if the probabilities were right."""
    rows = []
    for most in UP_TO:
        below_NC = p_NC <= most
        seen_N, expected_N = (y_NC * below_NC).sum(axis=1), (p_NC * below_NC).sum(axis=1)
        (excess,) = bootstrap.estimates((seen_N - expected_N)[:, None], groups_N)
        seen = share(seen_N, np.ones(len(seen_N)), groups_N)
        ends = (seen.low, seen.high) if seen.has_interval else (None, None)
        rows.append(
            {
                "up_to": most,
                "seen": asdict(Estimate(seen.value, *ends)),
                "expected": float(expected_N.mean()),
                "excess": asdict(excess),
            }
        )
    return rows


def disagreements(annotations: Annotations, p_IC: Array, rate: float | None) -> list[dict[str, Any]]:
    """The pairs where people's most frequent label is not the judge's choice, with texts, most surprising first.

    surprise: -log p of that label. slip: the chance that it is one; None without a rate. The order is by surprise times the chance
    that the label stands. Of labels that are equally frequent, the judge's likeliest counts.
    """
    counts_IC = label_counts(annotations.pair_N, annotations.y_NC.argmax(axis=1), len(p_IC))
    label_I = np.where(counts_IC == counts_IC.max(axis=1, keepdims=True), p_IC, -1).argmax(axis=1)
    surprise_I = -np.log(np.maximum(p_IC[np.arange(len(p_IC)), label_I], CLIP))
    slip_I = None if rate is None else chance_of_slip(p_IC, counts_IC, label_I, rate)
    stands_I = np.ones(len(p_IC)) if slip_I is None else 1 - slip_I
    differ = np.flatnonzero(label_I != p_IC.argmax(axis=1))
    differ = differ[np.argsort(-(surprise_I * stands_I)[differ], kind="stable")]
    found = []
    for pair, n in zip(annotations.pairs.take(differ).to_pylist(), differ.tolist(), strict=True):
        found.append(
            {
                **{
                    name: pair[name]
                    for name in ("id", "prompt", "response_a", "response_b", "model_a", "model_b")
                },
                "people": LABELS[label_I[n]],
                "judge": LABELS[int(p_IC[n].argmax())],
                **{f"p_{label}": float(p) for label, p in zip(LABELS, p_IC[n], strict=True)},
                **{f"votes_{label}": int(count) for label, count in zip(LABELS, counts_IC[n], strict=True)},
                "surprise": float(surprise_I[n]),
                "slip": None if slip_I is None else float(slip_I[n]),
            }
        )
    return found
