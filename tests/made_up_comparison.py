"""Comparisons of four made-up models, judged by one who knows all, and votes on some of them."""

import numpy as np
from made_up_votes import drawn, probabilities

from tiebreak.comparison.judged import Judged, judged
from tiebreak.votes.formats.model_outputs import Comparison, comparisons, read_given

TRUE = {"ada": 0.8, "bob": 0.3, "cyd": 0.2, "dan": -1.0}


def made_up(prompts: int, seed: int = 0) -> tuple[Judged, list[Comparison], np.ndarray]:
    """Comparisons of four models, judged by one who knows all, and the gaps (n,) of strength."""
    random = np.random.default_rng(seed)
    rows = [
        {"instruction": f"Question {q}?", "output": f"{m} {q} {'word ' * int(random.integers(3, 60))}", "generator": m, "kind": "ab"[q % 2]}
        for q in range(prompts)
        for m in TRUE
    ]  # fmt: skip
    outputs = read_given(rows, by="kind")
    chosen = comparisons(outputs)
    luck = random.normal(size=(prompts, len(TRUE)))
    names = list(TRUE)
    quality = {(f"Question {q}?", m): TRUE[m] + luck[q, names.index(m)] for q in range(prompts) for m in TRUE}
    gap = np.array(
        [
            quality[c.vote.prompt[0], c.vote.model_a] - quality[c.vote.prompt[0], c.vote.model_b]
            for c in chosen
        ]
    )
    return judged(chosen, probabilities(gap), outputs.models), chosen, gap


def voted(gap: np.ndarray, share: float, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    voted = random.random(len(gap)) < share
    return np.where(voted[:, None], drawn(random, probabilities(gap)), np.nan), voted.astype(np.int64)
