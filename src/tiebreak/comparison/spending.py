"""Which comparisons to judge, or to vote on, next: those that narrow the intervals of interest most.

Only how many of each pair of models depends on what is known; which prompts is left to chance, since the intervals rest on it.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from tiebreak.comparison.judged import Judged
from tiebreak.stats import ratings
from tiebreak.stats.next_votes import information, leaders, next_votes
from tiebreak.votes.formats.vote import digest

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def for_leaders(made: Judged, sizes: Mapping[tuple[str, str], int], count: int) -> Counter[tuple[str, str]]:
    """How many comparisons more to judge of each pair of models, so that the first models are told apart.

    made: those judged so far. sizes: the comparisons that there are of each pair of models, whose names are sorted. count: in all.
    Without two models that can be compared, those of which there are most.
    """
    number = {name: n for n, name in enumerate(made.models)}
    pairs = sorted(sizes)
    pair_P2 = np.array([[number[name] for name in pair] for pair in pairs])
    judged = Counter(tuple(sorted(made.models[m] for m in sides)) for sides in made.sides.tolist())
    free_P = np.array([sizes[pair] - judged[pair] for pair in pairs])
    found = ratings.fit(made.sides, made.probabilities, made.prompts, len(made.models))
    chosen_P = on_leaders(found, made.sides, made.probabilities, pair_P2, free_P, count)
    while chosen_P.sum() < min(count, free_P.sum()):
        chosen_P[int((free_P - chosen_P).argmax())] += 1
    return Counter(dict(zip(pairs, chosen_P.tolist(), strict=True)))


def on_leaders(
    found: ratings.Ratings, model_N2: Ints, f_NC: Floats, pair_P2: Ints, free_P: Ints, count: int
) -> Ints:
    """The comparisons (P,) of each pair that narrow the first model's lead over its rivals most, by what is judged.

    found: fitted to the judge's probabilities f_NC of the models model_N2. free_P: comparisons of each pair that are not judged yet.
    A judge's probabilities vary less than votes would: so one of its comparisons says more of a gap than a vote does.
    """
    known_N = found.comparable_[model_N2].all(axis=1)
    if not known_N.any():
        return np.zeros(len(pair_P2), np.int64)
    lead_N = f_NC[known_N, 0] - f_NC[known_N, 1]
    expected_NC = found.probabilities(*model_N2[known_N].T)
    square_N = ((lead_N - expected_NC[:, 0] + expected_NC[:, 1]) / 2) ** 2
    explained = max(0.0, 1 - float(square_N.sum() / information(found, model_N2[known_N]).sum()))
    chosen_P, _ = next_votes(found, pair_P2, free_P, count, explained, leaders(found))
    return chosen_P


def to_vote_on(made: Judged, count_N: Ints, pairs: Mapping[tuple[str, str], int]) -> list[int]:
    """The places of the comparisons to vote on next: as many of each pair of models, at random among those without a vote.

    count_N: the votes on each comparison. pairs: how many of each pair of models, in the order of the choice. Prompts that have been
    taken less often come first, which says nothing of what is on them.
    """
    by_pair: dict[frozenset[str], list[int]] = defaultdict(list)
    for n in np.flatnonzero(count_N == 0).tolist():
        by_pair[frozenset(made.models[m] for m in made.sides[n])].append(n)
    used = Counter(made.prompts[count_N > 0].tolist())
    texts = made.table.select(["prompt", "answer_a", "answer_b"]).to_pylist()
    chosen = []
    for pair, count in pairs.items():
        order = sorted(
            by_pair[frozenset(pair)],
            key=lambda n: (used[int(made.prompts[n])], digest(" ".join(texts[n].values()))),
        )
        used.update(int(made.prompts[n]) for n in order[:count])
        chosen += order[:count]
    return chosen
