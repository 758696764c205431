from itertools import combinations
from random import Random

import numpy as np
import pytest

from tiebreak.votes import minhash


def shingles(text):
    return {text[i : i + 5] for i in range(max(1, len(text) - 4))}


def brute_force(texts, threshold):
    sets = [shingles(text) for text in texts]
    return {
        (i, j)
        for i, j in combinations(range(len(texts)), 2)
        if len(sets[i] & sets[j]) / len(sets[i] | sets[j]) >= threshold
    }


def random_text(random, words):
    return " ".join("".join(random.choices("abcdefghij", k=random.randint(2, 9))) for _ in range(words))


def damaged(random, text, edits):
    letters = list(text)
    for _ in range(edits):
        letters[random.randrange(len(letters))] = random.choice("xyz")
    return "".join(letters)


def planted(seed, count=100):
    """Different texts, and for each a copy with some letters changed."""
    random = Random(seed)
    texts = [random_text(random, random.randint(3, 60)) for _ in range(count)]
    return texts + [damaged(random, text, random.randint(1, 1 + len(text) // 40)) for text in texts]


def found(texts, threshold):
    pairs = minhash.similar_pairs(texts, minhash.sketches(texts), threshold)
    return {tuple(pair) for pair in pairs.tolist()}


def test_reports_no_pair_below_the_threshold_and_misses_almost_none():
    texts = planted(1)
    expected = brute_force(texts, 0.8)
    assert len(expected) > 50
    pairs = found(texts, 0.8)
    assert pairs <= expected
    assert len(pairs) >= 0.97 * len(expected)


def test_clear_copies_are_all_found():
    texts = planted(2)
    assert brute_force(texts, 0.92) <= found(texts, 0.8)


def test_similarity_is_the_jaccard_index():
    a, b = "what is the capital of france", "what is the capital of spain"
    expected = len(shingles(a) & shingles(b)) / len(shingles(a) | shingles(b))
    assert minhash.similarity(a, b) == expected
    assert 0 < expected < 0.8


def test_sketches_agree_as_often_as_texts_are_similar():
    random = Random(3)
    text = random_text(random, 300)
    other = damaged(random, text, 25)
    sketch = minhash.sketches([text, other])
    estimate = (sketch[0] == sketch[1]).mean()
    expected = minhash.similarity(text, other)
    assert abs(estimate - expected) < 4 * np.sqrt(expected * (1 - expected) / sketch.shape[1])


def test_a_sketch_does_not_depend_on_the_other_texts():
    texts = planted(4, count=20)
    alone = np.concatenate([minhash.sketches([text]) for text in texts])
    assert np.array_equal(minhash.sketches(texts), alone)


@pytest.mark.parametrize("texts", [[], ["one"], ["", "a", "ab"], ["你好", "\U0001f600", "\ud83d"]])
def test_few_and_short_texts_make_no_pairs(texts):
    assert found(texts, 0.8) == set()


def test_a_bucket_of_many_copies_stays_connected_and_cheap():
    texts = [f"{'the same long question asked by many people over and over ' * 5}{n}" for n in range(400)]
    pairs = found(texts, 0.8)
    assert {a for a, b in pairs} | {b for a, b in pairs} == set(range(400))
    assert len(pairs) < 400 * 150


def test_pairs_on_a_template_that_many_texts_share_are_found():
    random = Random(5)
    template, *bodies = ("".join(random.choices("abcdefghijklm ", k=k)) for k in [500] + [80] * 300)
    changed = [body[:30] + other[:50] for body, other in zip(bodies[:100], bodies[200:], strict=True)]
    texts = [template + body for body in bodies[:200] + changed]
    assert minhash.similarity(texts[0], texts[1]) < 0.8
    planted = {(n, 200 + n) for n in range(100)}
    assert all(minhash.similarity(texts[a], texts[b]) >= 0.8 for a, b in planted)
    assert planted <= found(texts, 0.8)


def test_in_a_crowd_the_shingles_of_a_text_are_made_once(monkeypatch):
    random, made = Random(6), []
    shingle_set = minhash._shingle_set
    monkeypatch.setattr(minhash, "_shingle_set", lambda text: made.append(text) or shingle_set(text))
    text = random_text(random, 200)
    texts = [damaged(random, text, 15) for _ in range(60)]
    pairs = found(texts, 0.8)
    assert len(pairs) > 200
    assert pairs <= brute_force(texts, 0.8)
    assert sorted(made) == sorted(set(texts))


def test_few_shingles_kept_at_a_time_find_the_same_pairs(monkeypatch):
    texts = planted(7)
    expected = minhash.similar_pairs(texts, minhash.sketches(texts), 0.8)
    monkeypatch.setattr(minhash, "_KEPT_SHINGLES", 1000)
    assert np.array_equal(minhash.similar_pairs(texts, minhash.sketches(texts), 0.8), expected)


def long_texts(seed, edits, count=24):
    """Long texts that are one text with letters changed in some places."""
    random = Random(seed)
    text = random_text(random, 800)
    return [damaged(random, text, edits) for _ in range(count)]


@pytest.mark.parametrize(("edits", "least", "most"), [(20, 1, 1), (60, 0.1, 0.9), (110, 0, 0)])
def test_the_fine_estimate_of_long_texts_costs_no_pair(edits, least, most):
    """All pairs that are proposed and similar by brute force are found."""
    texts = long_texts(8, edits)
    similar = brute_force(texts, 0.8)
    assert least <= len(similar) / (24 * 23 / 2) <= most
    sketch = minhash.sketches(texts)
    proposed = minhash._candidate_pairs(sketch)
    likely = proposed[minhash._estimates(sketch, proposed) >= 0.8 - minhash._SLACK]
    assert found(texts, 0.8) == similar & {tuple(pair) for pair in likely.tolist()}


@pytest.mark.parametrize("words", [800, 8])
def test_the_fine_estimate_is_near_the_similarity_of_long_texts(words):
    """Also of a text that says few words again and again, which leaves most bins empty."""
    random = Random(9)
    said = random_text(random, words).split()
    text = " ".join(said * (800 // words))
    texts = [damaged(random, text, edits) for edits in (0, 10, 30, 50)] + ["short", "sharp"]
    pairs = np.array(list(combinations(range(6), 2)))
    estimates = minhash._fine_estimates(texts, pairs)
    for (a, b), estimate in zip(pairs.tolist(), estimates, strict=True):
        expected = 1 if b > 3 else minhash.similarity(texts[a], texts[b])
        assert abs(estimate - expected) < minhash._FINE_SLACK
    assert estimates[0] < 1


def test_long_near_misses_are_hardly_ever_compared_whole(monkeypatch):
    texts, compared = long_texts(10, 90, count=60), []
    jaccard = minhash._jaccard
    monkeypatch.setattr(minhash, "_jaccard", lambda *sets: compared.append(sets) or jaccard(*sets))
    assert found(texts, 0.8) == set()
    candidates = minhash._candidate_pairs(minhash.sketches(texts))
    assert len(candidates) > 500
    assert len(compared) < 0.1 * len(candidates)


def test_the_sets_that_were_met_last_are_kept(monkeypatch):
    monkeypatch.setattr(minhash, "_KEPT_SHINGLES", 250)
    made = []
    shingle_set = minhash._shingle_set
    monkeypatch.setattr(minhash, "_shingle_set", lambda text: made.append(text[0]) or shingle_set(text))
    sets = minhash._ShingleSets([letter + "".join(map(str, range(60))) for letter in "abcd"])
    sizes = [len(sets[n]) for n in (0, 1, 0, 2, 0, 3, 0, 1)]
    assert all(80 < size < 125 for size in sizes)
    assert made == ["a", "b", "c", "d", "b"]
