"""Guarantees hold in simulation: of 400 calibration sets, no more than 5 % (and three standard errors) break one."""

from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
from scipy.stats import binomtest

from tiebreak.judge.logits import softmax
from tiebreak.stats.blend import LogBlend
from tiebreak.stats.guarantees import CERTAINTIES, Guarantees, decide, decisions, prediction_sets
from tiebreak.stats.metrics import Array

SETS = 400
MOST = 0.05 + 3 * np.sqrt(0.05 * 0.95 / SETS)
MAX_ERROR = 0.3


@cache
def world(overconfident: float = 1.0) -> tuple[Array, Array]:
    """What a judge says of 20,000 pairs, (n, 3), and the probabilities of what voters answer."""
    random = np.random.default_rng(0)
    z_NC = random.normal(size=(20_000, 3)) * 1.3
    return softmax(overconfident * (z_NC + 0.3 * random.normal(size=z_NC.shape))), softmax(z_NC)


def labels(true_NC: Array, random: np.random.Generator) -> Array:
    """A voter's answer, one-hot, on each pair."""
    chosen_N = (random.random(len(true_NC))[:, None] > true_NC.cumsum(axis=1)[:, :-1]).sum(axis=1)
    return np.eye(3)[chosen_N]


def error(p_NC: Array, true_NC: Array, certain_from: float) -> float:
    """The expected error among the decided."""
    choice_N, certainty_N = decide(p_NC)
    at = np.flatnonzero(certainty_N >= certain_from)
    return float(1 - true_NC[at, choice_N[at]].mean())


def broken(
    fit: Callable[[np.random.Generator], float | None], p_NC: Array, true_NC: Array
) -> tuple[float, float]:
    """The shares of calibration sets whose threshold breaks MAX_ERROR, and of those that have a threshold."""
    truth = {float(t): error(p_NC, true_NC, t) for t in CERTAINTIES if (decide(p_NC)[1] >= t).any()}
    found = [fit(np.random.default_rng(seed)) for seed in range(SETS)]
    return (
        float(np.mean([t is not None and truth[t] > MAX_ERROR for t in found])),
        float(np.mean([t is not None for t in found])),
    )


@pytest.mark.parametrize(("overconfident", "soft"), [(1.0, False), (3.0, True)])
def test_the_error_among_the_decided_is_bounded(overconfident: float, soft: bool) -> None:
    p_NC, true_NC = world(overconfident)

    def fit(random: np.random.Generator) -> float | None:
        at = random.integers(len(p_NC), size=400)
        y_NC = true_NC[at] if soft else labels(true_NC[at], random)
        return Guarantees.fit(
            p_NC[at], y_NC, np.arange(400), seed=int(random.integers(1 << 30))
        ).certain_from(MAX_ERROR)

    share, decided = broken(fit, p_NC, true_NC)
    assert share <= MOST
    assert decided > 0.8


def clustered(random: np.random.Generator) -> tuple[Array, Array, Array]:
    """Probabilities, labels and groups of 120 prompts with 1 to 12 votes, the labels of a prompt all right or all wrong.

    Every pair has certainty 0.6 and is right in 70 % of prompts: exactly MAX_ERROR.
    """
    group_N = np.repeat(np.arange(120), random.integers(1, 13, size=120))
    right_N = (random.random(120) < 1 - MAX_ERROR)[group_N]
    p_NC = np.tile([0.6, 0.3, 0.1], (len(group_N), 1))
    return p_NC, np.where(right_N[:, None], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]), group_N


def test_votes_on_one_prompt_count_as_one() -> None:
    """Taken as independent, they would break the bound several times as often as is allowed."""
    whole, naive = [], []
    for seed in range(SETS):
        p_NC, y_NC, group_N = clustered(np.random.default_rng(seed))
        for found, groups in ((whole, group_N), (naive, np.arange(len(group_N)))):
            found.append(Guarantees.fit(p_NC, y_NC, groups, seed).certain_from(MAX_ERROR + 1e-9) is not None)
    assert Guarantees.fit(p_NC, y_NC, group_N).voters == 120
    assert np.mean(whole) <= MOST
    assert np.mean(naive) > 2 * MOST


@pytest.mark.slow
def test_a_blend_fitted_on_the_same_votes_leaves_the_bound() -> None:
    """As a run does it. What two fitted weights take off the error of these very votes is within the allowance."""
    p_NC, true_NC = world(2.0)
    other_NC = softmax(np.log(true_NC) + np.random.default_rng(1).normal(size=true_NC.shape))
    x_NMC = np.stack([p_NC, other_NC], axis=1)
    wrong = 0
    for seed in range(SETS // 2):
        random = np.random.default_rng(seed)
        at = random.integers(len(x_NMC), size=200)
        y_NC = labels(true_NC[at], random)
        blend = LogBlend().fit(x_NMC[at], y_NC)
        found = Guarantees.fit(blend.predict_proba(x_NMC[at]), y_NC, np.arange(200), seed).certain_from(
            MAX_ERROR
        )
        shown = random.integers(len(x_NMC), size=5000)
        wrong += (
            found is not None and error(blend.predict_proba(x_NMC[shown]), true_NC[shown], found) > MAX_ERROR
        )
    assert wrong / (SETS // 2) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / (SETS // 2))


def test_prediction_sets_cover() -> None:
    coverage = 0.9
    p_NC, true_NC = world(2.0)
    covered = []
    for seed in range(SETS):
        random = np.random.default_rng(seed)
        at, shown = random.integers(len(p_NC), size=200), random.integers(len(p_NC), size=300)
        likely_from = Guarantees.fit(p_NC[at], labels(true_NC[at], random), np.arange(200), seed).likely_from(
            coverage
        )
        covered.append((true_NC[shown] * prediction_sets(p_NC[shown], likely_from)).sum(axis=1).mean())
    assert np.mean(covered) >= coverage - 3 * np.std(covered) / np.sqrt(SETS)
    assert np.mean(covered) < coverage + 0.02, "no larger than they need be"


def test_too_few_voters_for_any_set_but_all() -> None:
    few = Guarantees.fit(world()[0][:5], np.eye(3)[[0, 1, 2, 0, 1]], np.arange(5))
    assert few.likely_from(0.9) == 0.0
    assert few.certain_from(0.2) is None
    assert few.certain_from(5e-324) is None


@pytest.mark.parametrize("wrong", [0, 1, -0.1, 1.5, float("nan")])
def test_a_maximum_that_is_no_share_is_refused(wrong: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        Guarantees.fit(world()[0][:5], np.eye(3)[[0, 1, 2, 0, 1]], np.arange(5)).certain_from(wrong)


def test_thresholds_are_those_of_exact_binomial_tests() -> None:
    """One voter after the other, from the most certain on, until the first test fails."""
    p_NC, true_NC = world()
    random = np.random.default_rng(3)
    fitted = Guarantees.fit(p_NC[:500], labels(true_NC[:500], random), np.arange(500))
    fewest = next(n for n in range(500) if (1 - MAX_ERROR) ** n <= 0.05)
    expected = None
    for t, decided, wrong in zip(CERTAINTIES, fitted.decided_T, fitted.wrong_T, strict=True):
        if decided < 4 * fewest:
            continue
        if binomtest(int(wrong), int(decided), MAX_ERROR, alternative="less").pvalue > 0.05:
            break
        expected = t
    assert expected is not None
    assert fitted.certain_from(MAX_ERROR) == expected
    assert fitted.decided_T[-1] == 500
    smallest = fitted.smallest_max_error()
    assert smallest is not None
    assert fitted.certain_from(smallest) is not None
    assert fitted.certain_from(smallest - 0.01) is None


def test_swapped_answers_swap_the_decision_and_equal_ones_have_none() -> None:
    p_NC = np.array([[0.5, 0.3, 0.2], [0.4, 0.4, 0.2], [0.1, 0.2, 0.7], [np.nan] * 3])
    assert decisions(p_NC, 0.3) == [0, None, 2, None]
    assert decisions(p_NC[:, [1, 0, 2]], 0.3) == [1, None, 2, None]
    assert decisions(p_NC, 0.6) == [None, None, 2, None]
    assert prediction_sets(p_NC[:3], 0.3).tolist() == [
        [True, True, False],
        [True, True, False],
        [False, False, True],
    ]
    assert prediction_sets(p_NC[:1], 0.9).tolist() == [[True, False, False]], "never empty"


def test_json_keeps_all_and_refuses_the_rest() -> None:
    p_NC, true_NC = world()
    fitted = Guarantees.fit(p_NC[:50], true_NC[:50], np.arange(50) // 2)
    assert fitted.voters == 25
    state = fitted.to_json()
    assert Guarantees.from_json(state).to_json() == state
    for change in ({"voters": 0}, {"wrong": state["decided"][::-1]}, {"decided": [1]}, {"label_below": None}):
        with pytest.raises((ValueError, TypeError)):
            Guarantees.from_json(state | change)
