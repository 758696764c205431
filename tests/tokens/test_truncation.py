import numpy as np
import pytest

from tiebreak.tokens.truncation import keep_ends, keep_lengths


def pop_one_at_a_time(prompt: int, first: int, second: int, budget: int, cap: int) -> tuple[int, int, int]:
    """A reference of the published truncation, one token at a time."""
    if prompt + first + second <= budget:
        return prompt, first, second
    prompt = min(prompt, cap)
    while prompt + first + second > budget:
        if first > second:
            first -= 1
        elif second > first:
            second -= 1
        else:
            first, second = first - 1, second - 1
    return prompt, first, second


def test_truncation_equals_popping_one_token_at_a_time() -> None:
    generator = np.random.default_rng(0)
    for _ in range(3000):
        prompt, first, second, budget = (int(x) for x in generator.integers(1, 60, 4))
        cap = int(generator.integers(1, 20))
        if budget - min(prompt, cap) < 2 < prompt + first + second - budget + 3:
            continue
        assert keep_lengths(prompt, first, second, budget, cap) == pop_one_at_a_time(
            prompt, first, second, budget, cap
        ), (prompt, first, second, budget, cap)


def numbers(count: int, start: int = 0) -> np.ndarray:
    return np.arange(start, start + count, dtype=np.int32)


@pytest.mark.parametrize(
    ("kept", "last", "expected"),
    [
        (20, 0, list(range(20))),
        (12, 0, [0, 1, 2, 3, 4, -1, -2, 15, 16, 17, 18, 19]),
        (11, 0, [0, 1, 2, 3, 4, -1, -2, 16, 17, 18, 19]),
        (3, 0, [0, 1, 2]),
        (12, 14, [0, 1, 2, 3, -1, -2, 14, 15, 16, 17, 18, 19]),
        (8, 14, [12, 13, 14, 15, 16, 17, 18, 19]),
        (6, 14, [14, 15, 16, 17, 18, 19]),
        (5, 14, [14, 15, -1, -2, 19]),
        (2, 14, [14, 15]),
        (10, 20, [0, 1, 2, 3, 4, 5, 6, 7, -1, -2]),
    ],
)
def test_kept_tokens_of_a_text(kept: int, last: int, expected: list[int]) -> None:
    gap = np.array([-1, -2], dtype=np.int32)
    assert keep_ends(numbers(20), kept, last, gap).tolist() == expected


def test_as_many_tokens_are_kept_as_asked_for() -> None:
    gap = np.array([-1, -2, -3], dtype=np.int32)
    for size in (1, 5, 30):
        for last in range(size + 1):
            for kept in range(1, size + 3):
                found = keep_ends(numbers(size), kept, last, gap)
                assert len(found) == min(kept, size)
                own = found[found >= 0]
                assert (np.diff(own) > 0).all()


def test_balanced_lets_the_prompt_use_what_the_answers_leave() -> None:
    assert keep_lengths(900, 20, 30, 500, 256) == (256, 20, 30)
    assert keep_lengths(900, 20, 30, 500, 256, spare=True) == (450, 20, 30)
    assert keep_lengths(900, 400, 30, 500, 256, spare=True) == (256, 214, 30)
    assert keep_lengths(100, 20, 30, 500, 256, spare=True) == (100, 20, 30)
