"""Requeueing of jobs of the nine scripts that wait for SCRATCH_BASE or inputs of earlier jobs."""

import os
from pathlib import Path

import pytest

from tiebreak.slurm import client, requeue
from tiebreak.slurm.client import QueuedJob
from tiebreak.slurm.numbered_scripts import STORED_BASE


@pytest.fixture
def requeued(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The jobs that go back into the queue; this one is 21, and it does not give others a head start."""
    found: list[str] = []
    monkeypatch.setattr(client, "this_job", lambda: "21")
    monkeypatch.setattr(client, "requeue", found.append)
    monkeypatch.setattr(requeue, "_HEAD_START", 0.0)
    return found


@pytest.mark.parametrize("state", ["PENDING", "RUNNING"])
@pytest.mark.parametrize("others", [False, True])
def test_a_job_is_requeued_until_an_earlier_one_stores_its_scratch_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, requeued: list[str], state: str, others: bool
) -> None:
    """A running job may still be at `module load`; the path stored by a finished series does not count."""
    if others:
        (tmp_path / STORED_BASE).write_text("/old\n")
        os.utime(tmp_path / STORED_BASE, (1e9, 1e9))
    first = QueuedJob("20", "step1_post_pretrain", state, "None", "2026-01-01T00:00:00", str(tmp_path))
    monkeypatch.setattr(client, "earlier_jobs", lambda names, folder: [first])
    assert requeue.requeue_until_base_known(2, {}, tmp_path)
    assert requeued == ["21"]
    (tmp_path / STORED_BASE).write_text("/new\n")
    (tmp_path / f"{STORED_BASE}-20").write_text("/new\n")
    os.utime(tmp_path / STORED_BASE, (1e9, 1e9))
    assert not requeue.requeue_until_base_known(2, {}, tmp_path)
    assert requeued == ["21"]


def test_a_job_with_its_scratch_folder_is_not_requeued(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, requeued: list[str]
) -> None:
    monkeypatch.setattr(client, "earlier_jobs", lambda names, folder: pytest.fail("not to be asked"))
    assert not requeue.requeue_until_base_known(2, {"SCRATCH_BASE": "/x"}, tmp_path)
    assert not requeued
