"""Votes that a simple model can learn from, with what no text should break."""

import numpy as np
import pyarrow as pa
import pytest

from tiebreak.baseline.model import Baseline
from tiebreak.data.votes import probabilities, table_of

WORDS = "river stone cloud paper music garden silver window orange market winter summer".split()


def made_up(count: int, seed: int = 0) -> pa.Table:
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
        votes.append({"id": f"v{n}", **answers} | dict(zip(("p_a", "p_b", "p_tie"), np.eye(3)[label], strict=True)))
    return table_of(votes)


ODD_TEXTS = (
    ([], [], []),
    (["Hi"], [None], ["Hello"]),
    (["Hi"], ["same"], ["same"]),
    (["\ud800 lone"], ["\udfff\0"], ["ok \ud83d"]),
    (["नमस्ते, क्या हाल है?", None], ["ठीक", ""], ["好的，谢谢。", "다음"]),
    (["1", "2", "3"], ["```x```", "**b**\n# h\n- l\n| t |", "I can't"], ["?", "!", "\n" * 500]),
)


@pytest.fixture(scope="session")
def votes() -> pa.Table:
    return made_up(240)


@pytest.fixture(scope="session")
def odd_votes() -> pa.Table:
    """Unlabelled pairs as no one would write them; Arrow holds no lone surrogates, so they come as the readers leave them."""
    clean = [[[t and t.encode("utf-8", "replace").decode() for t in side] for side in vote] for vote in ODD_TEXTS]
    return table_of(
        {"id": str(n), "prompt": p, "response_a": a, "response_b": b} for n, (p, a, b) in enumerate(clean)
    )



@pytest.fixture(scope="session")
def baseline(votes) -> Baseline:
    return Baseline().fit(votes, probabilities(votes), np.arange(len(votes)) // 2)
