"""Do the intervals of the data card and of the reliability diagram hold what they say? By simulation.

    python benchmarks/coverage_card.py [--small] [--worlds N] [--write]

A world is some prompts with one vote, four, or 1 to 12 each (written as 0). Votes on a prompt share luck, and on
every other prompt all votes are on one pair of answers. Prints tables, then one line of JSON; --write keeps both
under benchmarks/results.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm
from simulation import MIXED, Arm, Row, per_cent, run

from tiebreak.data_card import label_statistics
from tiebreak.evaluate.variants import reliability
from tiebreak.stats import bradley_terry
from tiebreak.stats.clustered import FEWEST_PROMPTS, Share, share

Array = NDArray[np.float64]
Ints = NDArray[np.int64]

RESULT = Path(__file__).parent / "results" / "coverage_card-cpu-202611"
PROMPTS = (100, 300, 1000)
VOTES = (1, 4, MIXED)
SIZES = (1, 1, 1, 2, 4, 12)
"""Votes on a prompt of a mixed world, equally likely."""

STRENGTH_M = np.linspace(0.7, -0.7, 8)
LOG_TIE, ADVANTAGE = -0.3, 0.2
SHARED = 0.5
"""Correlation of the votes on one pair of answers, on the normal scale."""

SMALL = 0.02
"""A share so small that a hundred prompts hold a few of it."""


@dataclass(frozen=True)
class World:
    """Votes: their models (n, 2), probabilities and labels (n, 3), prompts and pairs (n,), and the chance (n,),
    uniform on 0 to 1, that drew the labels.
    """

    models_N2: Ints
    p_NC: Array
    y_NC: Array
    prompts_N: Ints
    pairs_N: NDArray[np.uint64]
    chance_N: Array


def world(random: np.random.Generator, prompts: int, votes: int) -> World:
    size_G = random.choice(SIZES, prompts) if votes == MIXED else np.full(prompts, votes)
    prompts_N = np.repeat(np.arange(prompts), size_G)
    ordered_P2 = np.argwhere(~np.eye(len(STRENGTH_M), dtype=bool))
    of_prompt_G, of_vote_N = (random.integers(len(ordered_P2), size=n) for n in (prompts, len(prompts_N)))
    repeats_N = prompts_N % 2 == 0
    models_N2 = ordered_P2[np.where(repeats_N, of_prompt_G[prompts_N], of_vote_N)]
    p_NC = davidson(models_N2)
    luck_GM = random.normal(size=(prompts, len(STRENGTH_M)))
    a_N, b_N = (luck_GM[prompts_N, models_N] for models_N in models_N2.T)
    drawn_N = np.sqrt(SHARED) * (a_N - b_N) / np.sqrt(2) + np.sqrt(1 - SHARED) * random.normal(size=len(a_N))
    chance_N = norm.cdf(drawn_N)
    label_N = np.select([chance_N < p_NC[:, 1], chance_N < p_NC[:, 1] + p_NC[:, 2]], [1, 2], 0)
    pairs_N = np.where(repeats_N, prompts_N, prompts + np.arange(len(prompts_N))).astype(np.uint64)
    return World(models_N2, p_NC, np.eye(3)[label_N], prompts_N, pairs_N, chance_N)


def davidson(models_N2: Ints) -> Array:
    """Davidson's probabilities (n, 3) of votes on two models."""
    d_N = STRENGTH_M[models_N2[:, 0]] - STRENGTH_M[models_N2[:, 1]] + ADVANTAGE
    odds_NC = np.exp(np.column_stack([d_N / 2, -d_N / 2, np.full(len(d_N), LOG_TIE)]))
    p_NC: Array = odds_NC / odds_NC.sum(axis=1, keepdims=True)
    return p_NC


def shares(worlds: int, prompts: int, votes: int) -> Iterator[Row]:
    """Per cent of worlds where the card's interval of a share holds the truth, and where Wilson's does that takes
    votes as independent.
    """
    p_C = davidson(np.argwhere(~np.eye(len(STRENGTH_M), dtype=bool))).mean(axis=0)
    true = {"label a": p_C[0], "A wins": p_C[0] / (p_C[0] + p_C[1]), f"a share of {SMALL:.0%}": SMALL}
    held: dict[str, list[bool]] = {}
    for made in _worlds(worlds, prompts, votes):
        alone_N = np.arange(len(made.y_NC))
        for way, groups_N in (("", made.prompts_N), (", votes as independent", alone_N)):
            for (name, value), found in zip(true.items(), _shares(made, groups_N), strict=True):
                if found.has_interval:
                    held.setdefault(name + way, []).append(found.low <= value <= found.high)
    yield from per_cent(held)


def _shares(made: World, groups_N: Ints) -> tuple[Share, ...]:
    ones_N = np.ones(len(groups_N))
    return (
        share(made.y_NC[:, 0], ones_N, groups_N),
        label_statistics.a_wins(made.y_NC, label_statistics.pair_weights(made.pairs_N), groups_N),
        share((made.chance_N < SMALL).astype(float), ones_N, groups_N),
    )


def elo(worlds: int, prompts: int, votes: int) -> Iterator[Row]:
    """Per cent of the intervals of ranked models' strengths, and of position's worth, that hold the truth."""
    held: dict[str, list[bool]] = {}
    for made in _worlds(worlds, prompts, votes):
        weights_N = label_statistics.pair_weights(made.pairs_N)
        alone_N = np.arange(len(made.y_NC))
        ranked_M = None
        for way, groups_N in (("", made.prompts_N), (", votes as independent", alone_N)):
            fitted = bradley_terry.fit(made.models_N2, made.y_NC, weights_N, groups_N, len(STRENGTH_M))
            ranked_M = (
                fitted.comparable_ & (fitted.prompts_ >= FEWEST_PROMPTS) if ranked_M is None else ranked_M
            )
            off_M = fitted.elo_ - bradley_terry.ELO * STRENGTH_M
            off_M -= off_M[ranked_M].mean() if ranked_M.any() else 0
            held.setdefault("Elo" + way, []).extend((np.abs(off_M) <= fitted.margin_)[ranked_M].tolist())
            off = abs(fitted.advantage_ - bradley_terry.ELO * ADVANTAGE)
            held.setdefault("side A" + way, []).append(bool(off <= fitted.advantage_margin_))
    yield from per_cent(held)


def dots(worlds: int, prompts: int, votes: int) -> Iterator[Row]:
    """Per cent of a calibrated judge's reliability dots whose interval holds the mean prediction."""
    held: dict[str, list[bool]] = {}
    for made in _worlds(worlds, prompts, votes):
        alone_N = np.arange(len(made.y_NC))
        for way, groups_N in (("", made.prompts_N), (", votes as independent", alone_N)):
            for curve in reliability(made.p_NC, made.y_NC, groups_N):
                held.setdefault("reliability dots" + way, []).extend(
                    b["low"] <= b["probability"] <= b["high"] for b in curve if b["low"] is not None
                )
    yield from per_cent(held)


ARMS: tuple[Arm, ...] = (shares, elo, dots)
"""Each from numbers of worlds, prompts and votes on a prompt to rows: a figure and its per cent."""


def _worlds(worlds: int, prompts: int, votes: int) -> Iterator[World]:
    random = np.random.default_rng([1, prompts, votes])
    return (world(random, prompts, votes) for _ in range(worlds))


def main() -> None:
    settings = [(prompts, votes) for prompts in PROMPTS for votes in VOTES]
    run(__doc__, RESULT, ARMS, settings, worlds=200, tiny=((60, MIXED), 5), page=page)


def page(table: str, facts: Row) -> str:
    error = 100 * (0.95 * 0.05 / facts["worlds"]) ** 0.5
    return PAGE.format(
        table=table, error=error, mixed=", ".join(map(str, SIZES)), fewest=FEWEST_PROMPTS, **facts
    )


PAGE = """# Coverage of the intervals of the data card and of reliability diagrams

Measured in November 2026 on {processor}; Python {python}, NumPy {numpy}, SciPy {scipy}, tiebreak {tiebreak};
{seconds} s with other work beside it. Made by

    python benchmarks/coverage_card.py --worlds {worlds} --write

Columns are prompts x votes on each; 1 to 12 are {mixed}, equally likely. Eight models with Davidson's
probabilities; votes on one prompt share the luck that models have there (two votes on one pair of answers correlate by
0.5 on the normal scale), and on half of the prompts all votes are on one pair. Per cent of nominal 95 % intervals
that hold the truth, of {worlds} worlds: one that should be 95 has a standard error of {error:.1f} for a share, less for Elo and
dots, of which a world has many. "Votes as independent" is the same figure without groups.

{table}

## What it shows

Taken as independent, votes on one prompt give intervals that are too narrow, the more the more votes a prompt has.
Taken together they hold what they say, as far as this many worlds tell. What fewer than {fewest} prompts (Kish's effective number) tell has no interval;
"none" is where that left nothing.
"""


if __name__ == "__main__":
    main()
