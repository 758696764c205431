"""Bias report: position, length, formatting and model bias of a judge, relative to the voters.

A lead is P(one answer) - P(the other). Every result is a plain dict, ready for JSON. A gap is the predicted value
minus the observed one; if its interval excludes 0, the bias is the model's, not the voters'.

Dimension letters: N votes, O orders, C classes (a, b, tie).
"""

from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import asdict
from itertools import islice, pairwise
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tiebreak.evaluate import text_features
from tiebreak.evaluate.variants import LabelledVotes
from tiebreak.judge.logits import softmax
from tiebreak.stats.agreement import SHARE
from tiebreak.stats.metrics import MIN_GROUPS, Array, Bootstrap, prior_prediction, row_accuracy, row_log_loss

LENGTH_EDGES = (500, 2000, 5000)
"""Lower edges of the slices by the length of both answers together."""

RATIO_BINS = ("up to 1.5 times", "1.5 to 3 times", "over 3 times")

MAX_SLICES = 40

SLICED_BY = ("turns", "script", "answers")
"""What all votes are sliced by; some have tags besides."""


def bias_report(
    votes: pa.Table, p_NC: Array, z_NOC: Array, prior_C: Array, truth: LabelledVotes, bootstrap: Bootstrap
) -> dict[str, Any]:
    """The whole bias report for votes (votes.schema.SCHEMA) in the order of `truth`.

    p_NC: the shipped probabilities. z_NOC: raw logits in both orders, swap undone; with one order position is
    None. prior_C: the class shares that slices are compared with.
    """
    length = advantage_of(*(text_features.lengths(votes[f"response_{side}"]) for side in "ab"))
    marks = advantage_of(*(text_features.marks(votes[f"response_{side}"]) for side in "ab"))
    a_N, b_N = (np.array([name or "" for name in votes[f"model_{side}"].to_pylist()]) for side in "ab")
    return {
        "position": position_bias(z_NOC, truth, bootstrap) if z_NOC.shape[1] == 2 else None,
        "length": lead_by_advantage(length, p_NC, truth, bootstrap),
        "formatting": lead_by_advantage(marks, p_NC, truth, bootstrap),
        **slices_by_kind(votes, p_NC, prior_C, truth, bootstrap),
        "models": models(a_N, b_N, p_NC, truth, bootstrap),
        "model_pairs": model_pairs(a_N, b_N, p_NC, truth, bootstrap),
    }


def position_bias(z_NOC: Array, truth: LabelledVotes, bootstrap: Bootstrap) -> dict[str, Any]:
    """Position bias of the raw model: its change when the answers are swapped.

    first_advantage: P(first shown) - P(second shown), the mean over both orders; 0 without position bias.
    change: half the sum of |change| over the three probabilities. flips: the share of votes whose most
    probable class changes.
    """
    stored_NC, swapped_NC = softmax(z_NOC[:, 0]), softmax(z_NOC[:, 1])
    columns = {
        "first_advantage": (lead(stored_NC) - lead(swapped_NC)) / 2,
        "change": np.abs(stored_NC - swapped_NC).sum(axis=1) / 2,
        "flips": (stored_NC.argmax(axis=1) != swapped_NC.argmax(axis=1)).astype(np.float64),
    }
    return mean_estimates(columns, truth.groups_N, bootstrap)


def lead_by_advantage(
    advantage_N: Array, p_NC: Array, truth: LabelledVotes, bootstrap: Bootstrap
) -> list[dict[str, Any]]:
    """The lead of the answer with more characters or marks, by their ratio.

    advantage_N: (a - b) / (a + b), between -1 and 1. Votes without a difference are left out.
    """
    sign_N, size_N = np.sign(advantage_N), np.abs(advantage_N)
    # r times as much is an advantage of (r - 1) / (r + 1); just above it, so that rounding moves no vote
    edges = [(ratio - 1) / (ratio + 1) + 1e-9 for ratio in (1.5, 3.0)]
    names_N = np.where(size_N > 0, np.array(RATIO_BINS)[np.searchsorted(edges, size_N)], "")
    leads = sign_N * lead(p_NC), sign_N * lead(truth.y_NC)
    found = list(lead_gaps(names_N, *leads, truth.groups_N, bootstrap))
    return sorted(found, key=lambda item: RATIO_BINS.index(item["name"]))


def slices_by_kind(
    votes: pa.Table, p_NC: Array, prior_C: Array, truth: LabelledVotes, bootstrap: Bootstrap
) -> dict[str, list[dict[str, Any]]]:
    """Slices by turns, by the script of the prompt, by the length of the answers and, where votes have any, by their tags."""
    found: dict[str, list[dict[str, Any]]] = {by: [] for by in SLICED_BY}
    for by, names_N in slice_names(votes):
        found.setdefault(by, []).extend(slice_metrics(names_N, p_NC, prior_C, truth, bootstrap))
    return {by: rows for by, rows in found.items() if rows or by in SLICED_BY}


def slice_names(votes: pa.Table) -> Iterator[tuple[str, NDArray[Any]]]:
    """What votes are sliced by, each with the name of every vote's slice (n,); of the tags each by itself, "" for the others."""
    turns_N = np.minimum(text_features.turns(votes["prompt"]), 4)
    yield "turns", np.where(turns_N == 4, "4 or more", turns_N.astype(str))
    yield "script", text_features.scripts(votes["prompt"])
    lengths = (text_features.lengths(votes[f"response_{side}"]) for side in "ab")
    yield "answers", _length_slices(sum(lengths, np.zeros(len(votes), np.int64)))
    for names_N in _tagged(votes):
        yield "tags", names_N


def _tagged(votes: pa.Table) -> Iterator[NDArray[Any]]:
    """For each of the tags with the most votes, the votes (N,) by its name, and "" for the others."""
    tags_N = votes["tags"].to_pylist() if "tags" in votes.column_names else []
    counts = Counter(tag for tags in tags_N for tag in tags or ())
    for tag, _ in counts.most_common(MAX_SLICES):
        yield np.array([tag if tag in (tags or ()) else "" for tags in tags_N])


def slice_metrics(
    names_N: NDArray[Any], p_NC: Array, prior_C: Array, truth: LabelledVotes, bootstrap: Bootstrap
) -> list[dict[str, Any]]:
    """Log loss, its paired change from the class shares (3,), accuracy and the gap in P(tie) of each named
    slice, the largest first.
    """
    loss_N = row_log_loss(p_NC, truth.y_NC)
    columns = {
        "log_loss": loss_N,
        "change": loss_N - row_log_loss(prior_prediction(prior_C, len(p_NC)), truth.y_NC),
        "accuracy": row_accuracy(p_NC, truth.y_NC),
        "tie_gap": p_NC[:, 2] - truth.y_NC[:, 2],
    }
    return [
        _slice(name, {key: column[rows] for key, column in columns.items()}, truth.groups_N[rows], bootstrap)
        for name, rows in large_slices(names_N, truth.groups_N)
    ]


def models(
    a_N: NDArray[Any], b_N: NDArray[Any], p_NC: Array, truth: LabelledVotes, bootstrap: Bootstrap
) -> list[dict[str, Any]]:
    """The lead of each model over its opponents. Each vote counts once for either model."""
    predicted_N, observed_N = (np.concatenate([lead(x), -lead(x)]) for x in (p_NC, truth.y_NC))
    groups_N = np.tile(truth.groups_N, 2)
    found = lead_gaps(np.concatenate([a_N, b_N]), predicted_N, observed_N, groups_N, bootstrap)
    return list(islice(found, MAX_SLICES))


def model_pairs(
    a_N: NDArray[Any], b_N: NDArray[Any], p_NC: Array, truth: LabelledVotes, bootstrap: Bootstrap
) -> list[dict[str, Any]]:
    """The lead of the alphabetically first of each two models with enough votes, and the gap in P(tie)."""
    known = (a_N != "") & (b_N != "") & (a_N != b_N)
    pairs = [f"{min(a, b)} over {max(a, b)}" for a, b in zip(a_N, b_N, strict=True)]
    sign_N = np.where(a_N < b_N, 1.0, -1.0)
    leads = sign_N * lead(p_NC), sign_N * lead(truth.y_NC)
    names_N = np.where(known, np.array(pairs, dtype=str), "")
    found = lead_gaps(names_N, *leads, truth.groups_N, bootstrap, tie_gap=p_NC[:, 2] - truth.y_NC[:, 2])
    return list(islice(found, MAX_SLICES))


def lead_gaps(
    names_N: NDArray[Any],
    predicted_N: Array,
    observed_N: Array,
    groups_N: NDArray[np.int64],
    bootstrap: Bootstrap,
    **more: Array,
) -> Iterator[dict[str, Any]]:
    """Predicted and observed leads of each named slice, the gap between them, and more; the largest first."""
    columns = {"predicted": predicted_N, "observed": observed_N, "gap": predicted_N - observed_N, **more}
    for name, rows in large_slices(names_N, groups_N):
        yield _slice(name, {key: column[rows] for key, column in columns.items()}, groups_N[rows], bootstrap)


def _slice(
    name: str, columns: dict[str, Array], groups_N: NDArray[np.int64], bootstrap: Bootstrap
) -> dict[str, Any]:
    return {"name": name, "rows": len(groups_N)} | mean_estimates(columns, groups_N, bootstrap)


def mean_estimates(
    columns: dict[str, Array],
    groups_N: NDArray[np.int64],
    bootstrap: Bootstrap,
    shares: Collection[str] = (),
) -> dict[str, Any]:
    """The mean of each column with its interval, as dicts. shares: the columns whose intervals are within 0 and 1."""
    bounds = [SHARE if name in shares else None for name in columns]
    estimates = bootstrap.estimates(np.stack(list(columns.values()), axis=1), groups_N, bounds=bounds)
    return {name: asdict(estimate) for name, estimate in zip(columns, estimates, strict=True)}


def lead(p_NC: Array) -> Array:
    """P(a) - P(b)."""
    return p_NC[:, 0] - p_NC[:, 1]


def _length_slices(characters_N: NDArray[np.int64]) -> NDArray[Any]:
    starts = [f"{start:,}" for start in LENGTH_EDGES]
    between = [f"{low} to {high} characters" for low, high in pairwise(starts)]
    names = np.array([f"under {starts[0]} characters", *between, f"{starts[-1]} characters or more"])
    return names[np.searchsorted(LENGTH_EDGES, characters_N, side="right")]


def advantage_of(a_N: NDArray[np.int64], b_N: NDArray[np.int64]) -> Array:
    advantage: Array = (a_N - b_N) / np.maximum(a_N + b_N, 1)
    return advantage


def large_slices(
    names_N: NDArray[Any], groups_N: NDArray[np.int64]
) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """Names and rows of the slices with enough groups, the largest first; rows named "" belong to none."""
    names, counts = np.unique(names_N, return_counts=True)
    for name in names[np.argsort(-counts, kind="stable")]:
        rows_N = names_N == name
        if name != "" and len(np.unique(groups_N[rows_N])) >= MIN_GROUPS:
            yield str(name), rows_N
