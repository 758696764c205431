"""Load balancing of rows over processes: each row once, votes whole, tokens even."""

import numpy as np
import pytest

from tiebreak.training.load_balance import rows_of_rank

LENGTHS = np.random.default_rng(0).integers(20, 1000, 500)


def length(vote: int) -> int:
    return int(LENGTHS[vote])


def step(votes: int) -> np.ndarray:
    chosen = np.random.default_rng(1).permutation(500)[:votes]
    return np.stack([np.repeat(chosen, 2), np.tile([0, 1], votes)], axis=1)


@pytest.mark.parametrize("size", [1, 2, 3, 8])
@pytest.mark.parametrize("votes", [1, 7, 32])
def test_every_row_goes_to_one_process_and_votes_stay_whole(size: int, votes: int) -> None:
    rows = step(votes)
    shares = [rows_of_rank(rows, length, rank, size) for rank in range(size)]
    assert sorted(map(tuple, np.concatenate(shares).tolist())) == sorted(map(tuple, rows.tolist()))
    for one in shares:
        assert set(np.unique(one[:, 0], return_counts=True)[1].tolist()) <= {2}


@pytest.mark.parametrize("size", [2, 4])
def test_tokens_are_even(size: int) -> None:
    tokens = [sum(map(length, rows_of_rank(step(64), length, rank, size)[:, 0])) for rank in range(size)]
    assert max(tokens) < 1.02 * min(tokens)


def test_one_process_keeps_the_order() -> None:
    rows = step(5)
    assert rows_of_rank(rows, length, 0, 1) is rows
