"""A worker's GPU, and its share of the memory."""

import pytest
import torch

from tiebreak.engine.worker import _assign_gpu


@pytest.mark.parametrize(
    ("workers", "cards", "shares"),
    [(1, 1, [1]), (3, 1, [3, 3, 3]), (3, 2, [2, 1, 2]), (2, 4, [1, 1]), (5, 2, [3, 2, 3, 2, 3])],
)
def test_workers_on_one_card_share_it(
    workers: int, cards: int, shares: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[float] = []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: cards)
    monkeypatch.setattr(torch.cuda, "set_device", lambda card: None)
    monkeypatch.setattr("tiebreak.model.memory_budget.limit_memory_share", found.append)
    for index in range(workers):
        assert _assign_gpu(index, workers, "cuda") == "cuda"
    assert found == shares
    assert _assign_gpu(0, workers, "cpu") == "cpu"
