"""Do intervals, points and tests hold what they say? By simulation, where the truth is known.

    python benchmarks/coverage.py [--small] [--worlds N] [--arms NAME ...] [--write]

A world is some prompts with one vote or four each. A prompt has probabilities, and a truth that scatters about them, which
all its votes share: so votes on one prompt depend on each other, and the probabilities are calibrated. Prints tables,
then one line of JSON; --write keeps both under benchmarks/results.
"""

import argparse
import json
import os
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from machine import processor
from numpy.typing import NDArray

from tiebreak.evaluate.calibrated import calibration_error, calibration_test
from tiebreak.evaluate.calibration import softmax
from tiebreak.evaluate.metrics import (
    Array,
    Bootstrap,
    difference,
    prior_prediction,
    resolvable,
    row_brier,
    row_hit,
    row_log_loss,
    summarise,
)

RESULT = Path(__file__).parent / "results" / "coverage-cpu-202611"
PROMPTS = (100, 300, 1000)
VOTES = (1, 4)
TEMPERATURES = (1.1, 1.28, 1.5)
LEVEL_C = np.log([0.35, 0.35, 0.30])
PRIOR_C = np.array([0.35, 0.35, 0.30])
SPREAD_C = np.array([0.8, 0.8, 0.5])
"""Standard deviations of a prompt's logits: log losses are then near 0.99, those of the class shares near 1.09."""

SCATTER = 6.0
"""Weight of a prompt's probabilities in the Dirichlet distribution of its truth: votes correlate by 1 / 7."""

BOOTSTRAP = Bootstrap(400)
POPULATION = 300_000
"""Prompts whose means are taken for the truth."""


@dataclass(frozen=True)
class World:
    """Calibrated probabilities (n, 3), labels (n,) and prompts (n,)."""

    p_NC: Array
    labels_N: NDArray[np.int64]
    prompts_N: NDArray[np.int64]


def world(random: np.random.Generator, prompts: int, votes: int) -> World:
    p_PC = softmax(LEVEL_C + SPREAD_C * random.normal(size=(prompts, 3)))
    gamma_PC = random.standard_gamma(SCATTER * p_PC)
    true_PC = gamma_PC / gamma_PC.sum(axis=1, keepdims=True)
    prompts_N = np.repeat(np.arange(prompts), votes)
    below_NC = random.random(len(prompts_N))[:, None] > true_PC[prompts_N].cumsum(axis=1)[:, :2]
    return World(p_PC[prompts_N], below_NC.sum(axis=1), prompts_N)


def other(made: World) -> Array:
    """The same probabilities by a judge that is too sure and takes some prompts for others: (n, 3)."""
    shift_PC = np.random.default_rng(0).normal(scale=0.3, size=(1 + int(made.prompts_N.max()), 3))
    return softmax(1.3 * np.log(made.p_NC) + shift_PC[made.prompts_N])


def sharpened(p_NC: Array, temperature: float) -> Array:
    return softmax(temperature * np.log(p_NC))


def intervals(made: World) -> dict[str, Any]:
    """The estimates of a world, by name."""
    scored = made.labels_N, BOOTSTRAP, made.prompts_N
    found = summarise([made.p_NC], *scored)
    found["paired change"] = difference([other(made)], [made.p_NC], *scored)
    found["change from class shares"] = difference(
        [made.p_NC], [prior_prediction(PRIOR_C, len(made.labels_N))], *scored
    )
    return found


def truths(random: np.random.Generator) -> dict[str, float]:
    """What the estimates of `intervals` estimate."""
    made = world(random, POPULATION, 1)
    loss_N = row_log_loss(made.p_NC, made.labels_N)
    return {
        "log_loss": loss_N.mean(),
        "accuracy": row_hit(made.p_NC, made.labels_N).mean(),
        "brier": row_brier(made.p_NC, made.labels_N).mean(),
        "paired change": (row_log_loss(other(made), made.labels_N) - loss_N).mean(),
        "change from class shares": (
            loss_N - row_log_loss(prior_prediction(PRIOR_C, POPULATION), made.labels_N)
        ).mean(),
    }


def coverage(worlds: int, prompts: int, votes: int) -> Iterator[dict[str, Any]]:
    """Per cent of worlds whose interval holds the truth."""
    random = np.random.default_rng(1)
    true = truths(np.random.default_rng(2))
    found = [intervals(world(random, prompts, votes)) for _ in range(worlds)]
    for name, value in true.items():
        covered = [made[name].low <= value <= made[name].high for made in found]
        yield {"figure": name, "per_cent": 100 * float(np.mean(covered))}


def size(worlds: int, prompts: int, votes: int) -> Iterator[dict[str, Any]]:
    """Per cent of calibrated models that are within the 95 % point, and that pass the test at 5 %."""
    random = np.random.default_rng(3)
    within = np.zeros((worlds, 2))
    for n in range(worlds):
        made = world(random, prompts, votes)
        error = calibration_error([made.p_NC], made.labels_N, BOOTSTRAP, made.prompts_N)
        test = calibration_test(made.p_NC, made.labels_N, made.prompts_N)
        within[n] = error.value <= error.limit, test.p >= 0.05
    for name, share in zip(("ECE within its 95 % point", "calibration test"), within.mean(axis=0), strict=True):
        yield {"figure": name, "per_cent": 100 * float(share)}


def power(worlds: int, prompts: int, votes: int) -> Iterator[dict[str, Any]]:
    """Per cent of models too sure by a temperature that the test finds, and whose ECE is past its 95 % point."""
    for temperature in TEMPERATURES:
        random = np.random.default_rng(4)
        found = np.zeros((worlds, 2))
        for n in range(worlds):
            made = world(random, prompts, votes)
            scored = sharpened(made.p_NC, temperature), made.labels_N
            error = calibration_error([scored[0]], scored[1], BOOTSTRAP, made.prompts_N)
            found[n] = calibration_test(*scored, made.prompts_N).p < 0.05, error.value > error.limit
        for name, share in zip(("calibration test", "ECE"), found.mean(axis=0), strict=True):
            yield {"figure": f"{name}, temperature {temperature}", "per_cent": 100 * float(share)}


def found_differences(worlds: int, prompts: int, votes: int) -> Iterator[dict[str, Any]]:
    """Per cent of worlds in which a difference as large as is called resolvable is found."""
    random = np.random.default_rng(5)
    found = [intervals(world(random, prompts, votes))["paired change"] for _ in range(worlds)]
    error = np.std([change.value for change in found])
    for change in found[:1]:
        yield {"figure": "resolvable / standard error", "per_cent": resolvable(change, 0.95) / error}


Arm = Callable[[int, int, int], Iterator[dict[str, Any]]]
ARMS: tuple[Arm, ...] = (coverage, size, power)
"""Each from numbers of worlds, prompts and votes on a prompt to rows: a figure and its per cent."""
