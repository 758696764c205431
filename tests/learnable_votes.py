"""Votes that a model of word counts can learn."""

import numpy as np
import pyarrow as pa

from tiebreak.votes.schema import table_of

WORDS = "river stone cloud paper music garden silver window orange market winter summer".split()


def learnable_votes(count: int, seed: int = 0) -> pa.Table:
    """Votes for the longer answer mostly, or the one with "good" in it; ties where lengths are close."""
    random = np.random.default_rng(seed)
    votes = []
    for n in range(count):
        prompt, a, b = (" ".join(random.choice(WORDS, size=size)) for size in random.integers(1, 30, size=3))
        a, b = a + " good" * int(random.integers(2)), b + " good" * int(random.integers(2))
        gain = (len(a) - len(b)) / 40 + 2 * (a.count("good") - b.count("good"))
        z = np.array([gain, -gain, 0.3 - abs(gain) / 2])
        label = random.choice(3, p=np.exp(z) / np.exp(z).sum())
        answers = {"prompt": [prompt], "response_a": [a], "response_b": [b]}
        votes.append(
            {"id": f"v{n}", **answers} | dict(zip(("p_a", "p_b", "p_tie"), np.eye(3)[label], strict=True))
        )
    return table_of(votes)
