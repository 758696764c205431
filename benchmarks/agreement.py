"""Do intervals of agreement hold what they say? Alpha, kappa and leave-one-out, by simulation, where the truth is known.

    python benchmarks/agreement.py [--small] [--worlds N] [--write]

A world is some prompts with one pair of answers or four each, and three people's votes on each pair. A prompt has an opinion, which
its pairs scatter about, and a pair's votes are draws of its own: so pairs of one prompt depend on each other. Worlds differ in how much
people agree: in "taste" they often do not, in "slips" nearly always, with few ties, as in PandaLM's test set. Prints tables, then one
line of JSON; --write keeps both under benchmarks/results.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from simulation import Arm, Row, per_cent, run

from tiebreak.stats.agreement import among_people, cohen_kappa, label_counts, leave_one_out
from tiebreak.stats.metrics import Array, Bootstrap, Estimate

RESULT = Path(__file__).parent / "results" / "agreement-cpu-202612"
PROMPTS = (30, 100, 300, 1000)
PAIRS = (1, 4)
PEOPLE = 3
BOOTSTRAP = Bootstrap(400)
POPULATION = 200_000
"""Prompts whose figures are taken for the truth."""

WORLDS = {"taste": (np.array([0.38, 0.38, 0.24]), 3.0), "slips": (np.array([0.45, 0.45, 0.10]), 0.25)}
"""Shares of the classes, and the weight of the Dirichlet distribution of a prompt's opinion: people agree more where it is small."""

SCATTER = 8.0
"""Weight of a prompt's opinion in the distribution of that of its pairs."""

NOISE = 0.6
"""Standard deviation of a judge's errors in a pair's logits."""


def dirichlet(random: np.random.Generator, weights_NC: Array) -> Array:
    gamma_NC = np.maximum(random.standard_gamma(weights_NC), 1e-12)
    shares: Array = gamma_NC / gamma_NC.sum(axis=1, keepdims=True)
    return shares


def estimates(
    random: np.random.Generator, world: str, prompts: int, pairs: int, bootstrap: Bootstrap
) -> dict[str, Estimate]:
    """The estimates of one world, by name."""
    shares_C, weight = WORLDS[world]
    opinion_PC = dirichlet(random, np.tile(weight * shares_C, (prompts, 1)))
    group_I = np.repeat(np.arange(prompts), pairs)
    own_IC = dirichlet(random, SCATTER * opinion_PC[group_I] + 1e-3)
    draws_IP = (random.random((len(own_IC), PEOPLE, 1)) > own_IC.cumsum(axis=1)[:, None, :2]).sum(axis=2)
    p_IC = np.exp(np.log(own_IC + 0.02) + NOISE * random.normal(size=own_IC.shape))
    return _figures(p_IC / p_IC.sum(axis=1, keepdims=True), draws_IP, group_I, bootstrap)


def _figures(
    p_IC: Array, draws_IP: NDArray[np.int64], group_I: NDArray[np.int64], bootstrap: Bootstrap
) -> dict[str, Estimate]:
    item_N, label_N = np.repeat(np.arange(len(p_IC)), PEOPLE), draws_IP.ravel()
    counts_IC = label_counts(item_N, label_N, len(p_IC))
    people, left_out = (
        among_people(counts_IC, group_I, bootstrap),
        leave_one_out(p_IC, counts_IC, group_I, bootstrap),
    )
    judge = cohen_kappa(p_IC.argmax(axis=1)[item_N], label_N, group_I[item_N], bootstrap)
    assert people is not None
    assert left_out is not None
    return {
        "agreement among people": people.agreement,
        "alpha": people.alpha,
        "agreement with the judge": judge.agreement,
        "kappa": judge.kappa,
        "judge less person": left_out.less_person,
        "judge less majority": left_out.less_majority,
        "gain": left_out.gain,
    }


def _coverage(world: str, worlds: int, prompts: int, pairs: int) -> Iterator[Row]:
    """Per cent of worlds whose interval holds the truth."""
    random = np.random.default_rng([list(WORLDS).index(world), prompts, pairs])
    population = estimates(np.random.default_rng(9), world, POPULATION // pairs, pairs, Bootstrap(2))
    true = {name: found.value for name, found in population.items()}
    held: dict[str, list[bool]] = {name: [] for name in true}
    for _ in range(worlds):
        for name, found in estimates(random, world, prompts, pairs, BOOTSTRAP).items():
            held[name].append(
                found.low is not None and found.high is not None and found.low <= true[name] <= found.high
            )
    yield from per_cent(held)


def taste(worlds: int, prompts: int, pairs: int) -> Iterator[Row]:
    return _coverage("taste", worlds, prompts, pairs)


def slips(worlds: int, prompts: int, pairs: int) -> Iterator[Row]:
    return _coverage("slips", worlds, prompts, pairs)


ARMS: tuple[Arm, ...] = (taste, slips)


def main() -> None:
    settings = [(prompts, pairs) for prompts in PROMPTS for pairs in PAIRS]
    run(__doc__, RESULT, ARMS, settings, worlds=1000, tiny=((30, 2), 10), page=page)


def page(table: str, facts: Row) -> str:
    error = 100 * (0.95 * 0.05 / facts["worlds"]) ** 0.5
    return f"""# Coverage of intervals of agreement

Measured in December 2026 on {facts["processor"]}; Python {facts["python"]}, NumPy {facts["numpy"]}, SciPy {facts["scipy"]},
tiebreak {facts["tiebreak"]}; {facts["seconds"]} s with other work beside it. No GPU, no seeds to choose. Made by

    python benchmarks/agreement.py --worlds {facts["worlds"]} --write

Columns are prompts x pairs of answers on each; three people vote on every pair. Per cent of {facts["worlds"]} worlds whose nominal 95 % interval
holds the truth, so one that should be 95 has a standard error of {error:.1f}. Bootstrap: {BOOTSTRAP.samples} resamples of prompts. The truth is
taken from {POPULATION:,} other pairs. In "taste" people often differ, in "slips" nearly never, with few ties, as in PandaLM's test set.

{table}

## What it shows

From 100 prompts on the intervals of agreement, alpha, kappa and of the judge against a person cover what they say. At 30 prompts, the
fewest that have an interval, those of shares near 1 are a little short. The gain in log loss has heavy tails where people nearly
always agree and the judge is at times sure of another answer: with four pairs a prompt its interval covers 90 to 93 %.
With three people a majority of the two others is one of them, so the two differences are the same figure.
"""


if __name__ == "__main__":
    main()
