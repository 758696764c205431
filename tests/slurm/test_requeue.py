"""Requeueing of jobs of the nine scripts that wait for SCRATCH_BASE or inputs of earlier jobs."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from tiebreak.slurm import client, requeue
from tiebreak.slurm.client import QueuedJob
from tiebreak.slurm.numbered_scripts import STARTS, STORED_BASE
from tiebreak.slurm.script_folder import RUN_STEP

Requeued = list[tuple[str, Sequence[int]]]


@pytest.fixture
def requeued(monkeypatch: pytest.MonkeyPatch) -> Requeued:
    """The jobs that go back into the queue; this one is 21, and it does not give others a head start."""
    found: Requeued = []
    monkeypatch.setattr(client, "this_job", lambda: "21")
    monkeypatch.setattr(client, "requeue", lambda job, after=(): found.append((job, after)))
    monkeypatch.setattr(requeue, "_HEAD_START", 0.0)
    return found


def queued(folder: Path, number: int = 20, name: str = "step1_post_pretrain", command: str = "") -> QueuedJob:
    return QueuedJob(
        str(number), name, "PENDING", "None", "2026-01-01T00:00:00", str(folder), command=command
    )


def in_queue(monkeypatch: pytest.MonkeyPatch, *jobs: QueuedJob) -> None:
    monkeypatch.setattr(client, "queued", lambda: list(jobs))


def test_a_job_waits_for_all_that_may_say_where_the_scratch_folder_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, requeued: Requeued
) -> None:
    """The path stored by a finished series does not count. One requeue is enough: it waits until they have ended."""
    (tmp_path / STORED_BASE).write_text('[0, "/old"]\n[7, "/old"]\n')
    in_queue(monkeypatch, queued(tmp_path, 19), queued(tmp_path, 20), queued(tmp_path, 22))
    assert requeue.requeue_until_base_known(2, {}, tmp_path)
    assert requeued == [("21", [19, 20])]
    with (tmp_path / STORED_BASE).open("a") as file:
        file.writelines(f"{json.dumps([job, '/new'])}\n" for job in (19, 20))
    assert not requeue.requeue_until_base_known(2, {}, tmp_path)


def test_a_job_with_its_scratch_folder_is_not_requeued(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, requeued: Requeued
) -> None:
    monkeypatch.setattr(client, "queued", lambda: pytest.fail("not to be asked"))
    assert not requeue.requeue_until_base_known(2, {"SCRATCH_BASE": "/x"}, tmp_path)
    assert not requeued


def test_jobs_of_one_series_are_those_of_scripts_in_one_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, requeued: Requeued
) -> None:
    """Wherever they were submitted; a later step is not waited for."""
    scripts, elsewhere = tmp_path / "my scripts", tmp_path / "elsewhere"
    scripts.mkdir()
    elsewhere.mkdir()
    (scripts / RUN_STEP).touch()
    in_queue(
        monkeypatch,
        queued(scripts, 11),
        queued(elsewhere, 12, command="../my scripts/step1_post_pretrain.sh --set a=/b.sh"),
        queued(elsewhere, 13, command=f"{scripts}/step2_make_folds.sh"),
        queued(elsewhere, 14, command="step1_post_pretrain.sh"),
        queued(scripts, 15, "step4_infer_teacher_logits"),
        queued(scripts, 16, "other"),
    )
    assert requeue.requeue_until_base_known(3, {}, scripts)
    assert requeued == [("21", [11, 12, 13])]


def test_jobs_that_died_before_tiebreak_started_are_told_until_one_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_queue(monkeypatch, queued(tmp_path, 21))
    assert requeue.died_early(tmp_path) == []
    (tmp_path / STORED_BASE).write_text('[18, "/new"]\n')
    (tmp_path / STARTS).write_text("18\t1\t/new\n19\t1\t/new\n20\t2\t\n21\t3\t\n")
    first, second = requeue.died_early(tmp_path)
    assert first.startswith("job 19 (step1_post_pretrain) ended before tiebreak started")
    assert "step2_make_folds-20.log, says why; mend profile.sh" in second
    with (tmp_path / STORED_BASE).open("a") as file:
        file.write('[21, "/new"]\n')
    assert requeue.died_early(tmp_path) == []
