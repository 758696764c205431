"""Artifacts: completion by the manifest, detection of damage, locking."""

import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tiebreak.engine import artifacts
from tiebreak.engine.artifacts import Manifest
from tiebreak.errors import Interrupted


def manifest_of(folder: Path, finished: float = 1.0, name: str = "fold0") -> Manifest:
    return Manifest(
        step="teach",
        name=name,
        version=1,
        key="k" * 64,
        settings={},
        inputs={},
        files=artifacts.file_records(folder),
        metrics={},
        seconds=1.0,
        finished=finished,
        versions={},
        hardware={},
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "teach" / "fold0-12345678"
    (made / "adapter").mkdir(parents=True)
    (made / "adapter" / "weights.bin").write_bytes(b"weights")
    (made / "curve.json").write_text("[]")
    return made


def test_payload_excludes_files_of_a_running_task(folder: Path) -> None:
    (folder / artifacts.SCRATCH).mkdir()
    (folder / artifacts.SCRATCH / "state").write_text("x")
    for name in (artifacts.PROGRESS, artifacts.LOCK, artifacts.FAILURE):
        (folder / name).write_text("x")
    assert artifacts.payload(folder) == ["adapter/weights.bin", "curve.json"]


def test_complete_writes_the_manifest_and_drops_the_checkpoint(folder: Path) -> None:
    (folder / artifacts.SCRATCH).mkdir()
    assert artifacts.read_manifest(folder) is None
    manifest = manifest_of(folder)
    artifacts.complete(folder, manifest)
    assert artifacts.read_manifest(folder) == manifest
    assert sorted(os.listdir(folder)) == ["adapter", "curve.json", "manifest.json"]


def test_a_complete_artifact_is_readable_as_the_umask_allows(folder: Path) -> None:
    weights = folder / "adapter" / "weights.bin"
    weights.chmod(0o600)
    before = os.umask(0o027)
    try:
        artifacts.complete(folder, manifest_of(folder))
    finally:
        os.umask(before)
    assert weights.stat().st_mode & 0o777 == 0o640


def test_a_manifest_that_cannot_be_read_means_incomplete(folder: Path) -> None:
    artifacts.complete(folder, manifest_of(folder))
    text = (folder / artifacts.MANIFEST).read_text()
    (folder / artifacts.MANIFEST).write_text(text[: len(text) // 2])
    assert artifacts.read_manifest(folder) is None


def test_damage_names_the_file(folder: Path) -> None:
    manifest = manifest_of(folder)
    assert artifacts.find_damage(folder, manifest) is None
    (folder / "adapter" / "weights.bin").write_bytes(b"weightz")
    assert "adapter/weights.bin is damaged" in str(artifacts.find_damage(folder, manifest))
    (folder / "curve.json").write_text("[1]")
    assert artifacts.find_damage(folder, manifest) == "curve.json is damaged: 3 bytes instead of 2"
    (folder / "curve.json").unlink()
    assert artifacts.find_damage(folder, manifest) == "curve.json is gone"


def test_what_was_written_since_is_read_and_the_rest_is_not(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = manifest_of(folder)
    artifacts.complete(folder, manifest)
    weights = folder / "adapter" / "weights.bin"
    sealed = (folder / artifacts.MANIFEST).stat().st_mtime_ns
    read = []
    digest = artifacts.file_digest
    monkeypatch.setattr(artifacts, "file_digest", lambda path: read.append(path.name) or digest(path))
    assert artifacts.find_damage(folder, manifest, only_rewritten=True) is None
    assert read == []
    os.utime(weights, ns=(sealed, sealed + 1))
    for _ in range(2):
        assert artifacts.find_damage(folder, manifest, only_rewritten=True) is None, (
            "copied without its times, such as by cp -r"
        )
    assert read == ["weights.bin"], "once a process"
    weights.write_bytes(b"weightz")
    os.utime(weights, ns=(sealed, sealed + 2))
    assert artifacts.find_damage(folder, manifest, only_rewritten=True) == (
        "adapter/weights.bin is damaged: its content is not what was written"
    )
    weights.write_bytes(b"short")
    assert artifacts.find_damage(folder, manifest, only_rewritten=True) == artifacts.find_damage(
        folder, manifest
    )
    weights.write_bytes(b"weights")
    (folder / artifacts.MANIFEST).unlink()
    assert artifacts.find_damage(folder, manifest, only_rewritten=True) == "manifest.json is gone", (
        "another process makes it again"
    )


def test_content_is_that_of_the_files_alone(folder: Path) -> None:
    before = manifest_of(folder, finished=1.0).content
    assert manifest_of(folder, finished=2.0).content == before
    (folder / "curve.json").write_text("[1]")
    assert manifest_of(folder).content != before


def test_clear_keeps_the_checkpoint_and_the_lock(folder: Path) -> None:
    (folder / artifacts.SCRATCH).mkdir()
    (folder / artifacts.LOCK).write_text("")
    artifacts.clear(folder)
    assert sorted(os.listdir(folder)) == [artifacts.LOCK, artifacts.SCRATCH]
    artifacts.clear(folder, keep_scratch=False)
    assert os.listdir(folder) == [artifacts.LOCK]


def test_newest_manifest_is_the_latest_of_that_exact_name(tmp_path: Path) -> None:
    for name, key, finished in (
        ("m", "aaaaaaaa", 1.0),
        ("m", "bbbbbbbb", 3.0),
        ("m-cccccccc", "dddddddd", 9.0),
    ):
        folder = tmp_path / f"{name}-{key}"
        folder.mkdir()
        artifacts.complete(folder, manifest_of(folder, finished, name))
    found = artifacts.newest_manifest(tmp_path, "m")
    assert found is not None
    assert found.finished == 3.0
    assert artifacts.newest_manifest(tmp_path, "other") is None


HOLD = """
import sys
from pathlib import Path
from tiebreak.engine import artifacts
with artifacts.lock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def another_holds(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lock of the folder until it is released."""
    arguments = [sys.executable, "-c", HOLD, str(folder)]
    other = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert other.stdout is not None
    assert other.stdout.readline() == "held\n"
    yield other
    other.communicate()


def test_a_waiting_writer_logs_the_holder_of_the_lock(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(artifacts, "_LOG_AFTER_SECONDS", 0.0)
    caplog.set_level(logging.INFO)
    with another_holds(folder) as other:
        assert artifacts.is_locked(folder)
        with pytest.raises(Interrupted), artifacts.lock(folder, lambda: bool(caplog.messages)):
            pass
        (line,) = caplog.messages
        assert line.startswith(f"waits: {folder} is being written by process {other.pid} on ")
    assert not artifacts.is_locked(folder)
    with artifacts.lock(folder):
        assert artifacts.is_locked(folder)


def test_the_lock_of_a_dead_process_is_free(folder: Path) -> None:
    with another_holds(folder) as other:
        other.kill()
        with artifacts.lock(folder):
            pass


def test_write_atomically_leaves_nothing_half_written(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    artifacts.write_atomically(path, "old")
    artifacts.write_atomically(path, json.dumps({"new": "é"}))
    assert json.loads(path.read_text(encoding="utf-8")) == {"new": "é"}
    assert os.listdir(tmp_path) == ["x.json"]


def test_a_manifest_with_an_impossible_file_name_is_none(folder: Path) -> None:
    artifacts.complete(folder, manifest_of(folder))
    tree = json.loads((folder / "manifest.json").read_text())
    tree["files"]["a\0b"] = {"sha256": "0", "size": 1}
    (folder / "manifest.json").write_text(json.dumps(tree))
    assert artifacts.read_manifest(folder) is None
