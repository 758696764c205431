"""What is it worth to choose what is judged, and what is voted on? Widths and coverage by simulation.

    python benchmarks/compare_choice.py [--small] [--worlds N] [--processes N] [--write]

A world is some models' answers to some prompts, as in compare.py, by a judge who knows each vote's probabilities. In "leaders" and "apart" 15 % of all comparisons are
judged: all of them spread evenly, or half of them, and the rest on the pairs that tell the first models apart (`tiebreak compare --leaders`).
In "votes" a fifth as many prompts as models' answers are voted on, of one pair of models: at random, or the more likely the less sure the
judge is, and weighted by the inverse. Prints tables, then one line of JSON; --write keeps both under benchmarks/results.
"""

from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
from compare import LOG_TIE, SCORE_C, probabilities
from numpy.typing import NDArray
from scipy.stats import t
from simulation import Arm, Row, per_cent, run

from tiebreak.comparison.spending import on_leaders
from tiebreak.stats import ppi, ratings

RESULT = Path(__file__).parent / "results" / "compare-choice-cpu-202612"
Array = NDArray[np.float64]
Ints = NDArray[np.int64]
SHARE = 0.15
"""Of all comparisons, that are judged."""
SETTINGS = [(300, 5), (1000, 5), (300, 10)]
POPULATION = 30_000


def gaps(random: np.random.Generator, true_M: Array, prompts: int) -> Array:
    """What parts the models of each pair on each prompt, (prompts, pairs)."""
    a_P, b_P = np.triu_indices(len(true_M), 1)
    quality = true_M + random.normal(size=(prompts, len(true_M)))
    gap_NP: Array = quality[:, a_P] - quality[:, b_P]
    return gap_NP


@cache
def truth(spread: float, models: int) -> tuple[Array, Array, Array]:
    """The models' worth, their strengths if all were judged, and the win rates of all pairs."""
    true_M = np.linspace(spread, -spread, models)
    p_NC = probabilities(gaps(np.random.default_rng(0), true_M, POPULATION).ravel())
    pair_P2 = np.stack(np.triu_indices(models, 1), axis=1)
    found = ratings.fit(
        np.tile(pair_P2, (POPULATION, 1)), p_NC, np.repeat(np.arange(POPULATION), len(pair_P2)), models
    )
    return true_M, found.strengths_, (p_NC @ SCORE_C).reshape(POPULATION, -1).mean(axis=0)


def _judging(spread: float, worlds: int, prompts: int, models: int) -> Iterator[Row]:
    random = np.random.default_rng([prompts, models, round(10 * spread)])
    true_M, strengths_M, rate_P = truth(spread, models)
    pair_P2 = np.stack(np.triu_indices(models, 1), axis=1)
    pairs, budget = len(pair_P2), round(SHARE * prompts * len(pair_P2))
    held: dict[str, list[bool]] = defaultdict(list)
    widths: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for _ in range(worlds):
        f_NPC = probabilities(gaps(random, true_M, prompts).ravel()).reshape(prompts, pairs, 3)
        order_NP = np.argsort(random.random((prompts, pairs)), axis=0)  # each pair's own, as good as random

        even_P = np.full(pairs, budget // pairs)
        prompt_N, pair_N, f_NC = _judged(f_NPC, order_NP, even_P // 2)
        half = ratings.fit(pair_P2[pair_N], f_NC, prompt_N, models)
        rest_P = on_leaders(
            half, pair_P2[pair_N], f_NC, pair_P2, prompts - even_P // 2, int((even_P - even_P // 2).sum())
        )
        for name, count_P in (("evenly", even_P), ("on leaders", even_P // 2 + rest_P)):
            prompt_N, pair_N, f_NC = _judged(f_NPC, order_NP, count_P)
            found = ratings.fit(pair_P2[pair_N], f_NC, prompt_N, models)
            first, second = np.argsort(-found.strengths_)[:2]
            gap, margin = found.gaps(np.array([first]), np.array([second]))
            pair = int(np.flatnonzero((pair_P2 == sorted((first, second))).all(axis=1))[0])
            of_pair = pair_N == pair
            score_N1 = (f_NC[of_pair] @ SCORE_C)[:, None]
            low, high = ppi.means(score_N1, 0 * score_N1, prompt_N[of_pair]).interval()
            held[f"lead of the first, {name}"].append(
                abs(gap[0] - strengths_M[first] + strengths_M[second]) <= margin[0]
            )
            held[f"strengths, {name}"] += (np.abs(found.strengths_ - strengths_M) <= found.margins).tolist()
            held[f"win rate of the first two, {name}"].append(low <= rate_P[pair] <= high)
            held[f"the first is told apart, {name}"].append(gap[0] > margin[0])
            for figure, width in (
                ("the lead", margin[0]),
                ("strengths", found.margins.mean()),
                ("the win rate", high - low),
            ):
                widths[figure][name].append(width)
    yield from per_cent(held)
    for figure, of in widths.items():
        yield {
            "figure": f"width of {figure}, on leaders",
            "per_cent": 100 * np.mean(of["on leaders"]) / np.mean(of["evenly"]),
        }


def _judged(f_NPC: Array, order_NP: Ints, count_P: Ints) -> tuple[Ints, Ints, Array]:
    """Prompt, pair and probabilities of so many comparisons of each pair."""
    pair_N = np.repeat(np.arange(len(count_P)), count_P)
    prompt_N = np.concatenate([order_NP[:count, p] for p, count in enumerate(count_P)])
    return prompt_N, pair_N, f_NPC[prompt_N, pair_N]


def leaders(worlds: int, prompts: int, models: int) -> Iterator[Row]:
    """Models of like worth."""
    yield from _judging(0.4, worlds, prompts, models)


def apart(worlds: int, prompts: int, models: int) -> Iterator[Row]:
    """Models far apart."""
    yield from _judging(1.5, worlds, prompts, models)


def votes(worlds: int, prompts: int, models: int) -> Iterator[Row]:
    random = np.random.default_rng([prompts, models])
    gap_of = np.random.default_rng(1).normal(0.4, 1.5, 400_000)
    true = float((probabilities(gap_of) @ SCORE_C).mean())
    held: dict[str, list[bool]] = defaultdict(list)
    widths: dict[str, list[float]] = defaultdict(list)
    errors: dict[str, list[float]] = defaultdict(list)
    count, rows = prompts // 5, prompts * models // 5
    for _ in range(worlds):
        p_NC = probabilities(random.normal(0.4, 1.5, rows))
        y_N = SCORE_C[(random.random(rows)[:, None] > p_NC.cumsum(axis=1)[:, :2]).sum(axis=1)]
        f_N = p_NC @ SCORE_C
        doubt_N = np.sqrt(p_NC @ SCORE_C**2 - f_N**2)
        for name, share_N in (
            ("at random", np.full(rows, count / rows)),
            ("where the judge is unsure", count * (0.5 * doubt_N / doubt_N.sum() + 0.5 / rows)),
        ):
            weight_N = (random.random(rows) < share_N) / share_N
            total = weight_N.sum()
            a_N = weight_N * (y_N - weight_N @ y_N / total)
            b_N = weight_N * (f_N - weight_N @ f_N / total) - (f_N - f_N.mean())
            tuned = ppi.power_tuned(a_N[:, None], b_N[:, None])
            value = weight_N @ y_N / total - tuned * (weight_N @ f_N / total - f_N.mean())
            half = t.ppf(0.975, count - 1) * float(np.sqrt(((a_N - tuned * b_N) ** 2).sum())) / rows
            held[f"win rate, {name}"].append(abs(value - true) <= half)
            widths[name].append(half)
            errors[name].append((value - true) ** 2)
    yield from per_cent(held)
    for what, found, root in (("width", widths, 1.0), ("error", errors, 0.5)):
        ratio = np.mean(found["where the judge is unsure"]) / np.mean(found["at random"])
        yield {"figure": f"{what}, where the judge is unsure", "per_cent": 100 * float(ratio**root)}


ARMS: tuple[Arm, ...] = (leaders, apart, votes)


def page(table: str, facts: Row) -> str:
    error = 100 * (0.95 * 0.05 / facts["worlds"]) ** 0.5
    return f"""# Choosing what is judged and what is voted on

Measured in December 2026 on {facts["processor"]}; Python {facts["python"]}, NumPy {facts["numpy"]}, SciPy {facts["scipy"]},
tiebreak {facts["tiebreak"]}; {facts["seconds"]} s with other work beside it. No GPU, no seeds to choose. Made by

    python benchmarks/compare_choice.py --worlds {facts["worlds"]} --write

Columns are prompts x models. Per cent of {facts["worlds"]} worlds whose nominal 95 % interval holds the truth, so that one of 95 has a standard error of
{error:.1f}; widths and errors are in per cent of those beside them, judged evenly or voted on at random. {100 * SHARE:.0f} % of all comparisons are judged. In "leaders"
models are at most 0.8 log odds apart, in "apart" 3. "The first" is the strongest by what was judged, in each world anew.

{table}

## What it shows

Half of a budget on the leaders makes the interval of the first model's lead a quarter to two fifths narrower, and that of its win rate against the second one
half as wide, so that the first is told apart more often; intervals of all strengths get wider by 11 to 21 %. Coverage stays what it is by an even budget. A narrower interval of all strengths is not to be had so:
A-optimal and Neyman allocations over pairs of models, tried beside these, gave 0 to 3 % where models are of like worth and up to 5 % where
they are far apart, with errors that were not smaller.

Votes where the judge is unsure, weighted as active inference has it (Zrnic and Candes 2024, arXiv:2403.03208), are no better than votes at random: the
doubt of a judge of preferences differs little between comparisons, and weights cost what it gains. So pairs of models are chosen, and prompts are drawn.

## Caveats

The truth is what all comparisons of all prompts would give. Half the budget on some pairs weighs them more: where Davidson's model does not hold, strengths then are
about these pairs more than about others. A log odds of a tie of {LOG_TIE}, one kind of world, a judge who is right.
"""


def main() -> None:
    run(__doc__, RESULT, ARMS, SETTINGS, worlds=400, tiny=((200, 4), 3), page=page)


if __name__ == "__main__":
    main()
