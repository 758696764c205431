"""Votes of three people on made-up pairs, and what judges of known quality say of them."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from tiebreak.votes.annotations import Annotations
from tiebreak.votes.schema import table_of

WORDS = "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi".split()


@dataclass(frozen=True)
class World:
    """true_IC: the probabilities that each of three people votes by."""

    annotations: Annotations
    true_IC: np.ndarray


def pairs(count: int, random: np.random.Generator) -> pa.Table:
    """Pairs on prompts of their own, by models own-1 and other-1."""
    rows = []
    for n in range(count):
        a, b = (" ".join(random.choice(WORDS, size=size)) for size in random.integers(3, 12, size=2))
        models = ("own-1", "other-1") if n % 2 else ("other-1", "own-1")
        prompt = f"{' '.join(random.choice(WORDS, size=6))} {n}"
        rows.append(
            {
                "id": f"p{n}",
                "prompt": [prompt],
                "response_a": [a],
                "response_b": [b],
                "model_a": models[0],
                "model_b": models[1],
                "tags": [f"language: {'German' if n % 3 else 'Greek'}"],
            }
        )
    return table_of(rows)


def world(count: int = 200, people: int = 3, sharp: float = 2.0, seed: int = 0) -> World:
    random = np.random.default_rng(seed)
    true_IC = random.dirichlet(np.array([0.4, 0.4, 0.2]) * 3 / sharp, size=count)
    pair_N = np.repeat(np.arange(count), people)
    labels = (random.random(len(pair_N))[:, None] > true_IC[pair_N].cumsum(axis=1)[:, :2]).sum(axis=1)
    names = [f"annotator{n + 1}" for n in range(people)] * count
    swapped_N = random.random(len(pair_N)) < 0.5
    found = Annotations(pairs(count, random), pair_N, np.eye(3)[labels], swapped_N, list(names))
    return World(found, true_IC)
