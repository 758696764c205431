"""Rates that a data card states, each with what it is a share of.

Dimension letters: N votes, C classes (a, b, tie).
"""

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]

_Z = 1.959964
_LENGTH_EDGES = np.array([-1, -0.6, -0.3, -0.1, 0.1, 0.3, 0.6, 1])


@dataclass(frozen=True)
class Share:
    """A share of some votes with its 95 % interval (Wilson 1927); NaN where there are none."""

    value: float
    low: float
    high: float
    votes: int


@dataclass(frozen=True)
class LengthBin:
    """Votes whose answers differ in length by (a - b) / (a + b) between low and high."""

    low: float
    high: float
    a_wins: Share
    ties: float


@dataclass(frozen=True)
class Disagreement:
    """Pairs that were voted on more than once, in either order.

    contradicted: those with different labels. agreement: the chance that two votes on a pair agree, taken
    over all pairs of votes; None if no pair repeats.
    """

    repeated: int
    contradicted: int
    agreement: float | None


def share(successes: float, votes: float) -> Share:
    """Successes out of votes; soft labels make both fractional."""
    if votes <= 0:
        return Share(math.nan, math.nan, math.nan, 0)
    votes = float(votes)
    p, z2 = float(successes) / votes, _Z**2
    middle = (p + z2 / (2 * votes)) / (1 + z2 / votes)
    half = _Z * math.sqrt(p * (1 - p) / votes + z2 / (4 * votes**2)) / (1 + z2 / votes)
    return Share(p, middle - half, middle + half, round(votes))


def a_wins(p_NC: Floats) -> Share:
    """How often A wins among the votes that are no ties."""
    a, b, _ = p_NC.sum(axis=0, dtype=np.float64) if len(p_NC) else (0.0, 0.0, 0.0)
    return share(a, a + b)


def longer_wins(p_NC: Floats, length_N2: NDArray[np.int64]) -> Share:
    """How often the longer answer wins among the votes that are no ties."""
    gap_N = length_N2[:, 0] - length_N2[:, 1]
    p_NC = np.where(gap_N[:, None] < 0, p_NC[:, [1, 0, 2]], p_NC)
    return a_wins(p_NC[gap_N != 0])


def length_bins(p_NC: Floats, length_N2: NDArray[np.int64]) -> list[LengthBin]:
    """How often A wins by how much longer it is."""
    a_N, b_N = length_N2.T
    gap_N = (a_N - b_N) / np.maximum(a_N + b_N, 1)
    bin_N = np.clip(np.searchsorted(_LENGTH_EDGES, gap_N, side="right") - 1, 0, len(_LENGTH_EDGES) - 2)
    bins = []
    for k, (low, high) in enumerate(pairwise(_LENGTH_EDGES.tolist())):
        inside = p_NC[bin_N == k]
        ties = float(inside[:, 2].mean()) if len(inside) else math.nan
        bins.append(LengthBin(low, high, a_wins(inside), ties))
    return bins


def disagreement(pair_N: NDArray[np.uint64], turned_N: NDArray[np.bool_], p_NC: Floats) -> Disagreement:
    """How far the hard labels of repeated pairs agree, exchanged answers put right."""
    label_N = np.where(turned_N[:, None], p_NC[:, [1, 0, 2]], p_NC).argmax(axis=1)
    _, which_N = np.unique(pair_N, return_inverse=True)
    counts_PC = np.bincount(which_N * 3 + label_N, minlength=3 * (which_N.max(initial=-1) + 1)).reshape(-1, 3)
    counts_PC = counts_PC[counts_PC.sum(axis=1) > 1]
    votes_P = counts_PC.sum(axis=1)
    together = (votes_P * (votes_P - 1)).sum()
    agreeing = (counts_PC * (counts_PC - 1)).sum()
    contradicted = int(((counts_PC > 0).sum(axis=1) > 1).sum())
    return Disagreement(len(counts_PC), contradicted, float(agreeing / together) if together else None)
