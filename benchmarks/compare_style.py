"""Do strengths and win rates at equal style hold what they say, from votes and a judge together? By simulation.

    python benchmarks/compare_style.py [--small] [--worlds N] [--processes N] [--write]

A world is that of compare.py, with four models who write differently long and use lists differently much, and voters who like both. On a third of
the prompts one comparison or more, drawn at random, is voted on. Prints tables, then one line of JSON; --write keeps both under
benchmarks/results.
"""

from collections import defaultdict
from collections.abc import Iterator
from functools import cache, partial
from pathlib import Path

import numpy as np
from compare import JUDGED, JUDGES, SCORE_C, arms, probabilities
from numpy.typing import NDArray
from simulation import Row, per_cent, run

from tiebreak.stats import length_controlled, style_control

RESULT = Path(__file__).parent / "results" / "compare-style-cpu-202612"
Array = NDArray[np.float64]
TRUE_M = np.array([0.6, 0.1, -0.1, -0.6])
HABIT_M = np.array([1.0, 1.6, 0.8, 1.2])
"""How much of each measure of style a model has, as a share of the others'."""
TASTE_S = np.array([0.5, 0.3])
"""What a typical difference in length and in lists adds to the log odds."""
TYPICAL = 0.35
A_P, B_P = np.triu_indices(len(TRUE_M), 1)
SETTINGS = [(30, 1), (100, 1), (300, 1), (100, 3)]
POPULATION = 40_000
STRONG = 2.2
"""What makes the first model win nine of ten against the second."""


def world(random: np.random.Generator, prompts: int, lead: float = 0.0) -> tuple[Array, Array, Array]:
    """Gaps and style (n, S) of all pairs on each prompt, and the counts of style (2, n, S). lead: of the first model, more than it has."""
    quality = TRUE_M + lead * (np.arange(len(TRUE_M)) == 0) + random.normal(size=(prompts, len(TRUE_M)))
    counts = random.gamma(4, 100, size=(prompts, len(TRUE_M), 2)) * HABIT_M[:, None]
    a, b = (counts[:, side].reshape(-1, 2) for side in (A_P, B_P))
    style = (a - b) / (a + b) / TYPICAL
    return (quality[:, A_P] - quality[:, B_P]).ravel() + style @ TASTE_S, style, np.stack([a, b])


@cache
def truth() -> tuple[style_control.StyleControlled, float, float]:
    """Strengths and coefficients, and the first model's win rate against the second at equal length, plain and with a lead."""
    gap_N, style_NS, counts = world(np.random.default_rng(0), POPULATION)
    model_N2 = np.tile(np.stack([A_P, B_P], axis=1), (POPULATION, 1))
    prompt_N = np.repeat(np.arange(POPULATION), len(A_P))
    found = style_control.fit(model_N2, probabilities(gap_N), style_NS, prompt_N, len(TRUE_M))
    assert found is not None
    rates = []
    for lead in (0.0, STRONG):
        gap_N, _, counts = world(np.random.default_rng(0), POPULATION, lead)
        of_pair = slice(None, None, len(A_P))
        score_N = probabilities(gap_N)[of_pair] @ SCORE_C
        rates.append(length_controlled.win_rate(score_N, *counts[:, of_pair, 0], np.arange(POPULATION)).value)
    return found, *rates


def coverage(judge: str, worlds: int, prompts: int, votes: int) -> Iterator[Row]:
    """Per cent of worlds whose interval holds the truth, and the widths in per cent of those by votes alone."""
    random = np.random.default_rng([list(JUDGES).index(judge), prompts, votes])
    true, *true_rates = truth()
    held: dict[str, list[bool]] = defaultdict(list)
    widths: list[float] = []
    model_N2 = np.tile(np.stack([A_P, B_P], axis=1), (JUDGED * prompts, 1))
    prompt_N = np.repeat(np.arange(JUDGED * prompts), len(A_P))
    for _ in range(worlds):
        gap_N, style_NS, _ = world(random, JUDGED * prompts)
        f_NC, y_NC = JUDGES[judge](gap_N, model_N2, random), _drawn(random, gap_N)
        chosen = np.argsort(random.random((prompts, len(A_P))), axis=1)[:, :votes]
        voted_N = np.zeros(len(gap_N), bool)
        voted_N[(np.arange(prompts)[:, None] * len(A_P) + chosen).ravel()] = True
        y_NC[~voted_N] = np.nan
        fit = partial(style_control.fit, model_N2, y_NC, style_NS, prompt_N, len(TRUE_M))
        found, alone = fit(f_NC), fit()
        if found is not None and alone is not None:
            error_M = np.abs(found.ratings.strengths_ - true.ratings.strengths_)
            held["strengths"] += (error_M <= found.ratings.margins).tolist()
            held["coefficients"] += (
                np.abs(found.coefficients_ - true.coefficients_) <= found.margins_
            ).tolist()
            widths.append(found.ratings.margins.mean() / alone.ratings.margins.mean())
        for name, lead, rate in zip(("win rate", "win rate near .9"), (0.0, STRONG), true_rates, strict=True):
            _at_equal_length(random, judge, prompts, lead, rate, f"{name} at equal length", held)
    yield from per_cent(held)
    yield {"figure": "width of strengths", "per_cent": 100 * float(np.mean(widths)) if widths else None}


def _at_equal_length(
    random: np.random.Generator,
    judge: str,
    prompts: int,
    lead: float,
    rate: float,
    name: str,
    held: dict[str, list[bool]],
) -> None:
    """Of the first model against the second, on each of the prompts once."""
    gap_N, _, counts = world(random, JUDGED * prompts, lead)
    gap_N, lengths = gap_N[:: len(A_P)], counts[:, :: len(A_P), 0]
    f_N = JUDGES[judge](gap_N, np.tile([[0, 1]], (len(gap_N), 1)), random) @ SCORE_C
    y_N = _drawn(random, gap_N) @ SCORE_C
    y_N[prompts:] = np.nan
    found = length_controlled.win_rate(y_N, *lengths, np.arange(len(gap_N)), f_N)
    if not np.isnan(found.low):
        held[name].append(found.low <= rate <= found.high)


def _drawn(random: np.random.Generator, gap_N: Array) -> Array:
    """Votes (n, 3)."""
    drawn_N = (random.random(len(gap_N))[:, None] > probabilities(gap_N).cumsum(axis=1)[:, :2]).sum(axis=1)
    votes: Array = np.eye(3)[drawn_N]
    return votes


def page(table: str, facts: Row) -> str:
    error = 100 * (0.95 * 0.05 / facts["worlds"]) ** 0.5
    return f"""# Coverage at equal style, from votes and a judge

Measured in December 2026 on {facts["processor"]}; Python {facts["python"]}, NumPy {facts["numpy"]}, SciPy {facts["scipy"]},
tiebreak {facts["tiebreak"]}; {facts["seconds"]} s on a loaded machine. No GPU, no seeds to choose. Made by

    python benchmarks/compare_style.py --worlds {facts["worlds"]} --write

Columns are prompts with votes x votes on each; three times as many prompts are judged. Per cent of {facts["worlds"]} worlds whose nominal 95 % interval
holds the truth, so that one of 95 has a standard error of {error:.1f}; strengths are of four models and coefficients of two measures of style in each.
The width is in per cent of that by the votes alone. Judges are those of [compare](compare-cpu-202612.md). Win rates at equal length are of one pair
of models, a vote a prompt.

{table}

## What it shows

With a judge beside the votes, strengths and coefficients of style hold what they say, and strengths are some 10 % narrower with a judge who is right.
Win rates at equal length, near .9 too, have errors by the jackknife over prompts: with the sandwich of before they held in 90.6 to 92.5 % with 30 to 100 prompts.

## Caveats

With 30 votes on six pairs of models strengths often cannot be told from style at all; those worlds are left out, as are win rates where one side won every vote.
A win rate is one figure a world, and so less certain than strengths and coefficients, of which a world has four and two. The machine was loaded, which changes seconds and no figure.
"""


def main() -> None:
    run(__doc__, RESULT, arms(coverage), SETTINGS, worlds=300, tiny=((60, 2), 3), page=page)


if __name__ == "__main__":
    main()
