"""Jobs of the nine scripts that wait for what earlier ones have yet to say."""

import os
from pathlib import Path

import pytest

from tiebreak.execute import queue, turn
from tiebreak.execute.queue import Queued
from tiebreak.execute.scratch import REMEMBERED


@pytest.fixture
def requeued(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The jobs that go back into the queue; this one is 21, and it does not give others a head start."""
    found: list[str] = []
    monkeypatch.setattr(queue, "this_job", lambda: "21")
    monkeypatch.setattr(queue, "requeue", found.append)
    monkeypatch.setattr(turn, "_HEAD_START", 0.0)
    return found


@pytest.mark.parametrize("state", ["PENDING", "RUNNING"])
@pytest.mark.parametrize("others", [False, True])
def test_a_job_waits_until_the_one_before_has_said_its_scratch_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, requeued: list[str], state: str, others: bool
) -> None:
    """One that runs may still be at `module load`; what a series that is over has said is not for this one."""
    if others:
        (tmp_path / REMEMBERED).write_text("/old\n")
        os.utime(tmp_path / REMEMBERED, (1e9, 1e9))
    first = Queued("20", "step1_post_pretrain", state, "None", "2026-01-01T00:00:00", str(tmp_path))
    monkeypatch.setattr(queue, "earlier_jobs", lambda names, folder: [first])
    assert turn.waits_for_earlier(2, {}, tmp_path)
    assert requeued == ["21"]
    (tmp_path / REMEMBERED).write_text("/new\n")
    (tmp_path / f"{REMEMBERED}-20").write_text("/new\n")
    os.utime(tmp_path / REMEMBERED, (1e9, 1e9))
    assert not turn.waits_for_earlier(2, {}, tmp_path)
    assert requeued == ["21"]


def test_a_job_that_is_told_its_scratch_folder_waits_for_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, requeued: list[str]
) -> None:
    monkeypatch.setattr(queue, "earlier_jobs", lambda names, folder: pytest.fail("not to be asked"))
    assert not turn.waits_for_earlier(2, {"SCRATCH_BASE": "/x"}, tmp_path)
    assert not requeued
