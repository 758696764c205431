from itertools import combinations
from random import Random

import numpy as np
import pytest

from tiebreak.votes.typos import one_letter_apart

TEXT = "who painted the last supper"


@pytest.mark.parametrize(
    "other",
    [
        "who pointed the last supper",
        "who paintd the last supper",
        "who painteed the last supper",
        "who paitned the last supper",
        "who painted the last suppe",
    ],
)
def test_one_letter_more_less_other_or_exchanged(other):
    assert one_letter_apart(["something else here", TEXT, other]).tolist() == [[1, 2]]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (TEXT, "who printed the lost supper"),
        ("what is a good cat", "what is a good car"),
        ("what is in the box", "what is on the box"),
        ("born in the year 1984", "born in the year 1985"),
        ("print x1234 now please", "print x1235 now please"),
        ("solve 1234+1234 for me", "solve 1234-1234 for me"),
        ("यह एक सुंदर दिन है आज", "यह एक सुंदर दान है आज"),
        ("中国的首都是哪里请告诉我好吗", "美国的首都是哪里请告诉我好吗"),
        ("ما هو معنى كلمة كتاب", "ما هو معنى كلمة كتان"),
        ("supper", "suppe"),
        (f"{TEXT} " * 3, f"{TEXT} " * 2 + "who pointed the last supper "),
    ],
)
def test_others_are_not_paired(one, other):
    assert one_letter_apart([one, other]).tolist() == []


def test_what_brute_force_finds_is_connected():
    random = Random(0)
    words = ["".join(random.choices("ab", k=random.randint(3, 6))) for _ in range(25)]
    texts = list(dict.fromkeys(f"what is {random.choice(words)} {random.choice(words)}" for _ in range(200)))
    expected = {(a, b) for a, b in combinations(range(len(texts)), 2) if apart(texts[a], texts[b])}
    found = set(map(tuple, one_letter_apart(texts).tolist()))
    assert len(expected) > 50
    assert found <= expected
    assert components(found, len(texts)) == components(expected, len(texts))


def apart(one, other):
    differ = [(a, b) for a, b in zip(one.split(), other.split(), strict=True) if a != b]
    return (
        len(differ) == 1
        and max(map(len, differ[0])) >= 4
        and (differ[0][1] in edits(differ[0][0]) or differ[0][0] in edits(differ[0][1]))
    )


def edits(word):
    yield from (word[:n] + word[n + 1 :] for n in range(len(word)))
    yield from (word[:n] + letter + word[n + 1 :] for n in range(len(word)) for letter in "ab")
    yield from (word[:n] + word[n + 1] + word[n] + word[n + 2 :] for n in range(len(word) - 1))


def components(pairs, count):
    name = np.arange(count)
    for _ in range(count):
        for a, b in pairs:
            name[a] = name[b] = min(name[a], name[b])
    return name.tolist()


@pytest.mark.parametrize("texts", [[], [""], [TEXT]])
def test_few_texts(texts):
    assert one_letter_apart(texts).shape == (0, 2)
