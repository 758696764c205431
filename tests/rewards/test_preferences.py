"""Rewards are probabilities of a judge, whatever place an answer has."""

from itertools import permutations

import numpy as np
import pytest
from tiny_models import judge_folder

import tiebreak
from tiebreak.errors import TiebreakError
from tiebreak.judge.judge import Judge
from tiebreak.rewards.preferences import against_group, against_references

pytestmark = pytest.mark.slow

ANSWERS = ["good answer long", "short", "red code always"]


@pytest.fixture(scope="module")
def judge() -> Judge:
    return tiebreak.load(judge_folder(), device="cpu")


def share(judge: Judge, prompt: str, answer: str, other: str) -> float:
    p_a, _, p_tie = judge.predict([{"prompt": prompt, "response_a": answer, "response_b": other}])[0]
    return float(p_a + p_tie / 2)


def test_a_reference_is_won_or_tied(judge: Judge) -> None:
    rewards = against_references(judge, ["why"] * 3, ANSWERS, ["blue sky"] * 3)
    assert rewards == pytest.approx([share(judge, "why", answer, "blue sky") for answer in ANSWERS], abs=1e-6)
    assert np.std(rewards) > 0.01
    turned = against_references(judge, ["why"] * 3, ["blue sky"] * 3, ANSWERS)
    np.testing.assert_allclose(turned, 1 - np.array(rewards), atol=1e-6)
    assert against_references(judge, ["why"], ["same"], ["same"]) == pytest.approx([0.5])


def test_a_group_is_the_answers_to_one_prompt(judge: Judge) -> None:
    prompts, answers = ["why", "code", "why", "why", "code"], [ANSWERS[0], "x y", *ANSWERS[1:], "light water"]
    rewards = against_group(judge, prompts, answers)
    for n, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
        others = [a for m, a in enumerate(answers) if prompts[m] == prompt and m != n]
        assert rewards[n] == pytest.approx(
            np.mean([share(judge, prompt, answer, o) for o in others]), abs=1e-6
        )


def test_the_place_in_a_group_makes_no_difference(judge: Judge) -> None:
    by_answer = [
        dict(zip(order, against_group(judge, ["why"] * 3, order), strict=True))
        for order in permutations(ANSWERS)
    ]
    for found in by_answer:
        assert found == pytest.approx(by_answer[0], abs=1e-6)
    assert sum(r for r in by_answer[0].values() if r is not None) == pytest.approx(1.5)


def test_what_cannot_be_judged_is_none(judge: Judge) -> None:
    assert against_group(judge, ["why", "code"], ANSWERS[:2]) == [None, None], "each alone"
    assert against_group(judge, [], []) == []
    unread = [{"role": "robot", "content": "x"}]
    first, none, third = against_group(judge, ["why"] * 3, [ANSWERS[0], unread, ANSWERS[2]])
    assert none is None
    assert first == pytest.approx(share(judge, "why", ANSWERS[0], ANSWERS[2]), abs=1e-6)
    assert third == pytest.approx(1 - first)
    found = against_references(judge, ["why", None, "why"], ["x", "x", "x"], [None, "y", "y"])
    assert [reward is None for reward in found] == [True, True, False]


def test_messages_are_read_as_texts_are(judge: Judge) -> None:
    def said(role: str, text: str) -> list[dict[str, str]]:
        return [{"role": role, "content": text}]

    as_texts = against_references(judge, ["why"] * 3, ANSWERS, ["red"] * 3)
    prompts, answers = [said("user", "why")] * 3, [said("assistant", answer) for answer in ANSWERS]
    assert against_references(judge, prompts, answers, ["red"] * 3) == pytest.approx(as_texts, abs=1e-6)
    assert against_group(judge, prompts, answers) == pytest.approx(
        against_group(judge, ["why"] * 3, ANSWERS), abs=1e-6
    )


def test_other_numbers_of_answers_are_refused(judge: Judge) -> None:
    with pytest.raises(TiebreakError, match="need as many of each: 1 prompts, 2 answers"):
        against_group(judge, ["Q"], ["a", "b"])
    with pytest.raises(TiebreakError, match="2 prompts, 2 answers, 1 references"):
        against_references(judge, ["Q", "Q"], ["a", "b"], ["c"])
