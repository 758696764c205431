"""Agreement of a judge with people beside that of people among themselves.

Dimension letters: N votes, I pairs, C classes (a, b, tie).
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tiebreak.stats.agreement import SHARE, among_people, cohen_kappa, label_counts, leave_one_out
from tiebreak.stats.metrics import MIN_GROUPS, Array, Bootstrap
from tiebreak.votes.annotations import Annotations

MOST_PEOPLE = 40
"""Of those with the most votes, so many are compared with the judge one by one, and the first few with each other."""

MOST_COMPARED = 5


def agreement(annotations: Annotations, p_IC: Array, bootstrap: Bootstrap) -> dict[str, Any]:
    """Agreement with each vote, among people, leave-one-out, and person by person; plain dicts, ready for JSON.

    Only hard labels count, and of one person only the first vote on a pair. `with_judge` is None where there are none,
    `among_people` and `leave_one_out` where no pair has votes of two people.
    """
    counted_N = _counted(annotations)
    item_N, label_N = annotations.pair_N[counted_N], annotations.y_NC[counted_N].argmax(axis=1)
    groups_I = annotations.groups
    counts_IC = label_counts(item_N, label_N, len(p_IC))
    people, left_out = (
        among_people(counts_IC, groups_I, bootstrap),
        leave_one_out(p_IC, counts_IC, groups_I, bootstrap),
    )
    chosen_N = p_IC.argmax(axis=1)[item_N]
    with_judge = cohen_kappa(chosen_N, label_N, groups_I[item_N], bootstrap) if counted_N.any() else None
    return {
        "votes": int(counted_N.sum()),
        "soft_or_repeated": int((~counted_N).sum()),
        "with_judge": with_judge and asdict(with_judge),
        "among_people": people and asdict(people),
        "leave_one_out": left_out and asdict(left_out),
        "each_person": list(_each_person(annotations, counted_N, p_IC, bootstrap)),
        "between_people": list(_between_people(annotations, counted_N, bootstrap)),
    }


def _counted(annotations: Annotations) -> NDArray[np.bool_]:
    """A mask of the hard votes that are the first of their person on their pair."""
    seen: set[tuple[int, str]] = set()
    first_N = np.ones(len(annotations), dtype=bool)
    for n, (pair, person) in enumerate(zip(annotations.pair_N.tolist(), annotations.people, strict=True)):
        if person is not None:
            first_N[n] = (pair, person) not in seen
            seen.add((pair, person))
    return annotations.hard & first_N


def _most_active(annotations: Annotations, counted_N: NDArray[np.bool_]) -> list[str]:
    """The people with the most votes, in that order."""
    counted = (person for person, kept in zip(annotations.people, counted_N, strict=True) if kept and person)
    return [person for person, _ in Counter(counted).most_common(MOST_PEOPLE)]


def _labels_of(
    annotations: Annotations, counted_N: NDArray[np.bool_], person: str
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The pairs that a person voted on, sorted, and the labels."""
    own_N = counted_N & np.array([name == person for name in annotations.people])
    item_N, label_N = annotations.pair_N[own_N], annotations.y_NC[own_N].argmax(axis=1)
    order = np.argsort(item_N)
    return item_N[order], label_N[order]


def _each_person(
    annotations: Annotations, counted_N: NDArray[np.bool_], p_IC: Array, bootstrap: Bootstrap
) -> Iterator[dict[str, Any]]:
    """For each person with votes on MIN_GROUPS prompts: the judge's agreement with them, and that of the others' votes."""
    all_IC = label_counts(
        annotations.pair_N[counted_N], annotations.y_NC[counted_N].argmax(axis=1), len(p_IC)
    )
    for person in _most_active(annotations, counted_N):
        item_N, label_N = _labels_of(annotations, counted_N, person)
        groups_N = annotations.groups[item_N]
        if len(np.unique(groups_N)) < MIN_GROUPS:
            continue
        judge = cohen_kappa(p_IC.argmax(axis=1)[item_N], label_N, groups_N, bootstrap)
        others_NC = all_IC[item_N] - np.eye(p_IC.shape[1])[label_N]
        shared_N = others_NC.sum(axis=1) > 0
        found: dict[str, Any] = {"name": person, **asdict(judge), "others": None}
        if len(np.unique(groups_N[shared_N])) >= MIN_GROUPS:
            share_N = others_NC[np.arange(len(label_N)), label_N] / np.maximum(others_NC.sum(axis=1), 1)
            (others,) = bootstrap.estimates(share_N[shared_N, None], groups_N[shared_N], bounds=[SHARE])
            found["others"] = asdict(others)
        yield found


def _between_people(
    annotations: Annotations, counted_N: NDArray[np.bool_], bootstrap: Bootstrap
) -> Iterator[dict[str, Any]]:
    """Cohen's kappa of each two of the people with the most votes, where they share pairs on MIN_GROUPS prompts."""
    active = _most_active(annotations, counted_N)[:MOST_COMPARED]
    votes = {person: _labels_of(annotations, counted_N, person) for person in active}
    for one, other in combinations(active, 2):
        shared, first, second = np.intersect1d(votes[one][0], votes[other][0], return_indices=True)
        groups = annotations.groups[shared]
        if len(np.unique(groups)) >= MIN_GROUPS:
            found = cohen_kappa(votes[one][1][first], votes[other][1][second], groups, bootstrap)
            yield {"name": f"{one} and {other}", **asdict(found)}
