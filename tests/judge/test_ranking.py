"""Rankings by pairs, with judges whose answers are known."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from scipy.stats import kendalltau

from tiebreak.errors import TiebreakError
from tiebreak.judge import ranking
from tiebreak.judge.judge import Judge
from tiebreak.stats.davidson import Strengths
from tiebreak.stats.pair_schedule import ALL_UP_TO, PAIRS_EACH
from tiebreak.votes.formats.candidates import read_record
from tiebreak.votes.formats.readers import votes_table
from tiebreak.votes.formats.vote import Vote


def by_length(table: pa.Table) -> np.ndarray:
    """Davidson probabilities of strengths that are the answers' lengths, a tenth each."""
    lengths = np.array(
        [
            [len("".join(filter(None, row[side]))) for side in ("response_a", "response_b")]
            for row in table.to_pylist()
        ]
    )
    pairs = np.arange(lengths.size).reshape(-1, 2)
    return Strengths(lengths.ravel() / 10, -0.5, np.eye(1)).probabilities(pairs)


@pytest.fixture
def judge(monkeypatch: pytest.MonkeyPatch) -> Judge:
    """One that likes long answers, and counts in `asked` the pairs of each call."""
    found = object.__new__(Judge)
    asked: list[int] = []

    def predict_table(table: pa.Table, *_: Any, **__: Any) -> np.ndarray:
        asked.append(len(table))
        return by_length(table)

    monkeypatch.setattr(found, "predict_table", predict_table, raising=False)
    monkeypatch.setattr(found, "asked", asked, raising=False)
    return found


def answers(count: int) -> list[str]:
    return ["x" * n for n in np.random.default_rng(count).permutation(count) + 1]


@pytest.mark.parametrize("count", [2, 5, ALL_UP_TO, 12, 64])
def test_the_order_is_that_of_the_qualities(judge: Judge, count: int) -> None:
    given = answers(count)
    found = judge.rank("Q?", given)
    assert found.order == sorted(range(count), key=lambda n: -len(given[n]))
    assert found.best == found.order[0]
    assert found.scores.sum() == pytest.approx(0, abs=1e-9)
    gaps = np.array([len(given[found.best]) - len(answer) for answer in given]) / 10
    assert found.scores[found.best] - found.scores == pytest.approx(gaps, rel=0.05, abs=0.02)
    assert found.p_best.sum() == pytest.approx(1)
    assert found.p_best == pytest.approx(np.exp(found.scores) / np.exp(found.scores).sum())
    expected = count * (count - 1) // 2 if count <= ALL_UP_TO else PAIRS_EACH * count
    assert len(set(map(frozenset, found.pairs))) == len(found.pairs) == expected


def test_the_probabilities_are_those_of_the_judge(judge: Judge) -> None:
    found = judge.rank("Q?", ["x" * 3, "x" * 9])
    expected = Strengths(np.array([0.3, 0.9]), -0.5, np.eye(1)).probabilities(np.array([[0, 1]]))[0]
    assert found.probabilities(0, 1) == pytest.approx(expected, abs=2e-3)
    assert found.probabilities(1, 0) == pytest.approx(expected[[1, 0, 2]], abs=2e-3)


@pytest.mark.parametrize("pairs", [1, 11, 12, 20, 1000])
def test_a_budget_is_kept_but_links_all(judge: Judge, pairs: int) -> None:
    found = judge.rank("Q?", answers(12), pairs=pairs)
    assert len(found.pairs) == min(max(pairs, 11), 66)
    assert kendalltau(found.scores, [len(answer) for answer in answers(12)]).statistic == pytest.approx(1)


def test_equal_responses_are_judged_as_one(judge: Judge) -> None:
    found = judge.rank("Q?", ["xx", "xxxx", "xx", "x", "xxxx"])
    assert found.order == [1, 4, 0, 2, 3]
    assert found.scores[1] == found.scores[4]
    assert found.scores.sum() == pytest.approx(0)
    alone = judge.rank("Q?", ["xx", "xxxx", "x"])
    assert found.p_best == pytest.approx(alone.p_best[[0, 1, 0, 2, 1]] / [2, 2, 2, 1, 2])
    assert set(map(frozenset, found.pairs)) == {frozenset({0, 1}), frozenset({0, 3}), frozenset({1, 3})}


@pytest.mark.parametrize("given", [["only"], ["same", "same", "same"], ["", ""]])
def test_one_response_needs_no_judge(judge: Judge, given: list[str]) -> None:
    found = judge.rank("Q?", given)
    assert found.order == list(range(len(given)))
    assert (found.scores == 0).all()
    assert found.p_best == pytest.approx(np.full(len(given), 1 / len(given)))
    assert found.pairs == []


def test_an_empty_response_is_a_missing_answer(judge: Judge) -> None:
    assert judge.rank("Q?", ["xx", "", "x"]).order == [0, 2, 1]


@pytest.mark.parametrize(
    ("prompt", "given", "why"),
    [
        ("Q?", [], "cannot rank: not 1 to 64 responses: 0"),
        ("Q?", ["x"] * 65, "not 1 to 64 responses: 65"),
        (["Q?", "And?"], [["a", "b"], ["a"]], "responses.1."),
        ("Q?", ["x", 7], r"responses\[1\] is neither text nor a list"),
        (None, ["x", "y"], "prompt"),
        ("Q?", "xyz", "responses are a list, not 'xyz'"),
        ("Q?", ["x", {"answer": "y"}], r"responses\[1\] has none of response, content, text: answer"),
    ],
)
def test_what_cannot_be_ranked(judge: Judge, prompt: Any, given: list[Any], why: str) -> None:
    with pytest.raises(TiebreakError, match=why):
        judge.rank(prompt, given)


@pytest.mark.parametrize("pairs", [0, -3])
def test_a_budget_without_pairs_is_refused(judge: Judge, pairs: int) -> None:
    with pytest.raises(TiebreakError, match=f"the pairs to judge of a prompt are 1 or more, not {pairs}"):
        judge.rank("Q?", answers(3), pairs=pairs)


def test_many_prompts_are_judged_in_few_large_batches(judge: Judge) -> None:
    found = [read_record({"prompt": f"Q{n}?", "responses": answers(5 + n)}) for n in range(8)]
    shares: list[float] = []

    def predict(votes: Sequence[Vote], report: Callable[[float], None]) -> np.ndarray:
        report(0.5)
        report(1.0)
        return judge.predict_table(votes_table(votes))

    together = ranking.rank(found, predict, report=shares.append)
    assert len(judge.asked) <= 6  # type: ignore[attr-defined]
    assert shares == sorted(shares)
    assert shares[-1] == pytest.approx(1)
    for one, candidates in zip(together, found, strict=True):
        (alone,) = ranking.rank([candidates], predict)
        assert one.pairs == alone.pairs, "a ranking depends on nothing but its texts"
        assert np.array_equal(one.scores, alone.scores)


def test_the_sides_of_pairs_are_mixed(judge: Judge, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a judge that favours a side favours no place in the list."""
    monkeypatch.setattr(
        judge, "predict_table", lambda table: np.tile([0.6, 0.2, 0.2], (len(table), 1)), raising=False
    )
    best = [judge.rank(f"Q{n}?", answers(4)).best for n in range(40)]
    assert np.bincount(best, minlength=4).max() < 20


@pytest.mark.parametrize("count", [5, 12])
def test_the_order_of_the_responses_makes_no_difference(
    judge: Judge, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    """Even to a judge that contradicts itself, prefers a side and is asked about a part of the pairs."""

    def predict_table(table: pa.Table) -> np.ndarray:
        seeds = [len(row["response_a"][0]) * 100 + len(row["response_b"][0]) for row in table.to_pylist()]
        return np.array([np.random.default_rng(seed).dirichlet([2, 1, 1]) for seed in seeds])

    monkeypatch.setattr(judge, "predict_table", predict_table)
    given = [*answers(count), "x"]
    found = judge.rank("Q?", given)
    turned = judge.rank("Q?", given[::-1])
    assert turned.scores[::-1] == pytest.approx(found.scores, abs=1e-12)
    assert turned.p_best[::-1] == pytest.approx(found.p_best, abs=1e-12)
