"""Logs of a task: which one, and what is written while it is read."""

import os
from pathlib import Path

import fake_steps
import pytest

from tiebreak.commands import logs
from tiebreak.engine.workspace import Workspace
from tiebreak.errors import TiebreakError
from tiebreak.slurm.jobs import SlurmJobs


def test_the_newest_log_is_taken_of_the_worker_or_of_a_job(tmp_path: Path) -> None:
    work = Workspace(fake_steps.write(tmp_path), (), fake_steps.tasks)
    task = work.find("train/fold1")
    with pytest.raises(TiebreakError, match=r"train/fold1 has no log yet; .*tiebreak status"):
        logs.newest_log(work, task)
    cluster = SlurmJobs(work)
    folder = work.place("logs")
    folder.mkdir(parents=True)
    worker = folder / "train-fold1.log"
    worker.write_text("a library talks\n")
    assert logs.newest_log(work, task) == worker
    os.utime(worker, (0, 0))
    entry = {"job": "17", "step": "train", "tasks": {"train/fold0": "", "train/fold1": work.key(task)}}
    cluster.folder.mkdir()
    cluster.record.append(entry)
    cluster._write_record()
    job = cluster.log_of(task, "17_1")
    job.write_text("one\ntwo\n")
    assert logs.newest_log(work, task) == job
    assert list(logs.lines(job)) == ["one", "two"]


def test_what_is_written_meanwhile_follows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = tmp_path / "a.log"
    log.write_text("one\n")
    more = iter(["two\n", "three\n"])
    monkeypatch.setattr(logs, "_POLL_SECONDS", 0)

    def follow() -> bool:
        text = next(more, None)
        if text:
            log.write_text(log.read_text() + text)
        return text is not None

    assert list(logs.lines(log, follow)) == ["one", "two", "three"]
