"""A worker's GPU, its share of the memory, and its log."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import fake_steps
import pytest
import torch

from tiebreak.engine.worker import _assign_gpu, _run_task, log_file
from tiebreak.engine.workspace import Workspace


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


@pytest.mark.parametrize(
    ("put", "message"),
    [
        (lambda path: path.symlink_to("elsewhere"), "is a link or leads out of"),
        (os.mkfifo, "is a pipe, not a file; remove it"),
        (os.mkdir, "is a folder, not a file; remove it"),
    ],
    ids=["link", "pipe", "folder"],
)
def test_a_log_that_cannot_be_written_fails_its_task_alone(
    put: Callable[[Path], None], message: str, tmp_path: Path
) -> None:
    work = Workspace(fake_steps.write(tmp_path), (), fake_steps.tasks)
    task = work.tasks[0]
    log = log_file(work, task.id)
    log.parent.mkdir(parents=True)
    put(log)
    unused = cast(Any, None)
    found = _run_task(work, task.id, work.key(task), 0, unused, unused)
    assert found.kind == "failed"
    assert message in found.text
    assert not (tmp_path / "elsewhere").exists()
