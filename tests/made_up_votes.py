"""Made-up votes on pairs of models, and judges of every kind."""

import numpy as np

TIE = -0.4


def probabilities(gap: np.ndarray) -> np.ndarray:
    """Davidson's probabilities (n, 3) for gaps (n,) of strength."""
    z = np.stack([gap / 2, -gap / 2, np.full_like(gap, TIE)], axis=1)
    return np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)


def drawn(random: np.random.Generator, p: np.ndarray) -> np.ndarray:
    """Votes (n, 3) by these probabilities."""
    return np.eye(3)[(random.random(len(p))[:, None] > p.cumsum(axis=1)).sum(axis=1).clip(max=2)]


def all_pairs(random: np.random.Generator, strengths: np.ndarray, prompts: int) -> tuple[np.ndarray, ...]:
    """Models (n, 2), gaps (n,) and prompts (n,) of all pairs on all prompts, on each of which models do better or worse."""
    a, b = np.triu_indices(len(strengths), 1)
    quality = strengths + random.normal(size=(prompts, len(strengths)))
    models = np.tile(np.stack([a, b], axis=1), (prompts, 1))
    return models, (quality[:, a] - quality[:, b]).ravel(), np.repeat(np.arange(prompts), len(a))


JUDGES = {
    "perfect": lambda gap, models, _: probabilities(gap),
    "biased": lambda gap, models, _: probabilities(gap + (models[:, 0] - models[:, 1])),
    "miscalibrated": lambda gap, models, random: probabilities(5 * gap + random.normal(size=len(gap))),
    "adversarial": lambda gap, models, _: probabilities(-gap),
}
