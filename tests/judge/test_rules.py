import json

import numpy as np
import pytest

from tiebreak.judge.rules import KINDS, Rules, kinds
from tiebreak.stats.metrics import log_loss
from tiebreak.votes.formats import readers
from tiebreak.votes.schema import swap_answers, table_of

PAIRS = [
    ("yes", "no", "ordinary"),
    (None, "no", "a missing"),
    ("yes", "  \n", "b missing"),
    (None, "", "both missing"),
    (" same\n", "same", "identical"),
]


def votes(pairs):
    return table_of(
        {"id": str(n), "prompt": ["?"], "response_a": [a], "response_b": [b]}
        for n, (a, b) in enumerate(pairs)
    )


def test_kinds():
    found = kinds(votes([(a, b) for a, b, _ in PAIRS]))
    assert [KINDS[k] for k in found] == [kind for _, _, kind in PAIRS]


def test_one_given_turn_is_an_answer():
    table = table_of([{"prompt": ["1", "2"], "response_a": [None, "yes"], "response_b": ["no", "no"]}])
    assert kinds(table).tolist() == [0]


def test_learned_shares_combine_counts_and_the_model():
    # A missing: B wins 3 times, a tie once; B missing: A wins once
    table = votes([(None, "x")] * 4 + [("x", None)])
    rules = Rules(strength=5.0).fit(table, [1, 1, 1, 2, 0])
    p = np.array([[0.5, 0.3, 0.2]])
    given = np.array([0.0, 4.0, 1.0])  # both kinds, seen with A missing
    np.testing.assert_allclose(rules.apply(votes([(None, "y")]), p), [(given + 5 * p[0]) / 10])


def test_kinds_absent_from_training_are_unchanged():
    rules = Rules().fit(votes([("yes", "no")] * 3), [0, 0, 1])
    p = np.random.default_rng(0).dirichlet([1, 1, 1], size=5)
    np.testing.assert_array_equal(rules.apply(votes([(a, b) for a, b, _ in PAIRS]), p), p)


def test_ordinary_votes_are_left_alone():
    rules = Rules().fit(votes([("yes", "no")] * 3 + [("x", "x")]), [0, 0, 1, 2])
    p = np.array([[0.2, 0.3, 0.5]])
    np.testing.assert_array_equal(rules.apply(votes([("a", "b")]), p), p)


def test_swapping_the_answers_swaps_the_probabilities_to_the_last_bit():
    random = np.random.default_rng(0)
    pairs = [PAIRS[n][:2] for n in random.integers(5, size=200)]
    rules = Rules().fit(votes(pairs), random.integers(3, size=200))
    p = random.dirichlet([1, 1, 1], size=200)
    swapped = rules.apply(votes([(b, a) for a, b in pairs]), swap_answers(p))
    assert (swap_answers(swapped) == rules.apply(votes(pairs), p)).all()


def test_state_survives_json():
    table = votes([(a, b) for a, b, _ in PAIRS])
    rules = Rules(strength=3.0).fit(table, [0, 1, 0, 2, 2])
    again = Rules.from_json(json.loads(json.dumps(rules.to_json())))
    p = np.full((5, 3), 1 / 3)
    assert (again.apply(table, p) == rules.apply(table, p)).all()


def test_many_votes_outweigh_the_model():
    table = votes([("x", "x")] * 1000)
    ruled = Rules().fit(table, np.full(1000, 2)).apply(table, np.tile([0.4, 0.4, 0.2], (1000, 1)))
    assert ruled[0, 2] == pytest.approx(1, abs=0.02)


def test_real_votes_follow_the_rules(shared_data):
    table, _ = readers.read_all([shared_data / "lmsys" / "train.csv"])
    y = np.stack([table[name].to_numpy() for name in ("p_a", "p_b", "p_tie")], axis=1)
    kind = kinds(table)
    assert (kind > 0).sum() >= 5
    even = np.arange(len(table)) % 2 == 0  # learn from one half, judge the other
    rules = Rules().fit(table.filter(even), y[even])
    other = table.filter(~even)
    ruled = rules.apply(other, np.full((len(other), 3), 1 / 3))
    assert log_loss(ruled[kind[~even] > 0], y[~even][kind[~even] > 0]) < np.log(3)
