"""Artifacts of tasks: folders that are complete once they hold a manifest.

    <run_dir>/artifacts/<step>/<name>-<first 8 of the key>/
        the step's files       the payload
        manifest.json          last, by rename: hashes and sizes of the payload, its provenance
        checkpoint/            the step's scratch, only while the task is unfinished; `inputs` in it is a
                               digest of the inputs it was made from, `seconds` what its turns took
        progress.json, .lock   of the running task, no part of the payload

Without a manifest an artifact is incomplete, whatever else lies in its folder.
"""

import errno
import fcntl
import hashlib
import json
import logging
import os
import socket
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, field_validator

from tiebreak import json_files
from tiebreak.errors import Interrupted, TiebreakError
from tiebreak.hashes import file_digest
from tiebreak.output import drop_partials, new_folder, no_link, remove, write_atomically
from tiebreak.seen import MANIFEST as MANIFEST

log = logging.getLogger(__name__)

SCRATCH = "checkpoint"
PROGRESS = "progress.json"
FAILURE = "error.txt"
LOCK = ".lock"
_INPUTS_FILE = "inputs"
_SECONDS_FILE = "seconds"
_LOG_AFTER_SECONDS = 1.0
_NOT_PAYLOAD = {MANIFEST, SCRATCH, PROGRESS, FAILURE, LOCK}


class Record(BaseModel):
    model_config = ConfigDict(frozen=True)


class FileRecord(Record):
    sha256: str
    size: int


class InputRecord(Record):
    """An input of a task. origin: a task's id or a source's location. key: a task's key or a source's fingerprint.
    content: the hash of a task's payload.
    """

    origin: str
    key: str
    content: str | None = None


class Manifest(Record):
    """Record of a finished task. `learned_from` and `fitted_on` are groups of votes, see `tiebreak.seen`.

    seconds: of all turns that it took, if it was stopped in between. gpus: the cards that it worked on.
    """

    step: str
    name: str
    version: int
    key: str
    settings: dict[str, Any]
    inputs: dict[str, tuple[InputRecord, ...]]
    files: dict[str, FileRecord]
    metrics: dict[str, Any]
    learned_from: tuple[str, ...] = ()
    fitted_on: tuple[str, ...] = ()
    seconds: float
    gpus: int = 0
    finished: float
    versions: dict[str, str]
    hardware: dict[str, Any]

    @field_validator("files")
    @classmethod
    def _check_files(cls, files: dict[str, FileRecord]) -> dict[str, FileRecord]:
        if outside := [
            name for name in files if name.startswith("/") or ".." in name.split("/") or "\0" in name
        ]:
            raise ValueError(f"{outside[0]!r} is outside the artifact")
        return files

    @property
    def content(self) -> str:
        """One hash for the whole payload."""
        return digest({name: file.sha256 for name, file in self.files.items()})


def digest(value: Any) -> str:
    """SHA-256 of a JSON value in its canonical form."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def payload(folder: Path) -> list[str]:
    """The files of a step, as sorted paths relative to the artifact's folder; no links."""
    return sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and not path.is_symlink() and path.relative_to(folder).parts[0] not in _NOT_PAYLOAD
    )


def file_records(folder: Path) -> dict[str, FileRecord]:
    """Hashes and sizes of an artifact's payload."""
    return {
        name: FileRecord(sha256=file_digest(folder / name), size=(folder / name).stat().st_size)
        for name in payload(folder)
    }


def complete(folder: Path, manifest: Manifest) -> None:
    """Complete an artifact: write its manifest, then remove the files of an unfinished task."""
    make_readable(folder)
    write_atomically(folder / MANIFEST, manifest.model_dump_json(indent=2))
    drop_leftovers(folder)


def make_readable(folder: Path) -> None:
    """Make the payload readable as the umask allows: safetensors writes files for their owner alone."""
    mask = os.umask(0)
    os.umask(mask)
    for name in payload(folder):
        (folder / name).chmod(0o666 & ~mask)


def drop_leftovers(folder: Path) -> None:
    """Remove leftovers of a task killed between its manifest and its end from a complete artifact."""
    for name in (SCRATCH, PROGRESS, FAILURE):
        with suppress(OSError):  # the artifact is whole all the same
            remove(folder / name)


def read_manifest(folder: Path) -> Manifest | None:
    """Read the manifest of an artifact; None if it has no valid one."""
    path = folder / MANIFEST
    if not path.is_file():  # a pipe would be waited for
        return None
    try:
        return Manifest.model_validate_json(json_files.checked(path.read_bytes()))
    except (FileNotFoundError, ValueError):
        return None


def newest_manifest(step_folder: Path, name: str) -> Manifest | None:
    """The latest finished artifact of a step and name, whatever its key."""
    found = (read_manifest(folder) for folder in step_folder.glob(f"{name}-????????"))
    return max(
        (manifest for manifest in found if manifest and manifest.name == name),
        key=lambda manifest: manifest.finished,
        default=None,
    )


def find_damage(folder: Path, manifest: Manifest, only_rewritten: bool = False) -> str | None:
    """Check sizes and hashes of an artifact's files; returns the first problem or None.

    only_rewritten: read those alone that were written after the manifest, as one copied without its times is too.
    """
    written: dict[str, int] = {}
    for name, record in manifest.files.items():
        try:
            own = (folder / name).lstat()
            found = (folder / name).stat() if stat.S_ISLNK(own.st_mode) else own
        except OSError:
            return f"{name} is gone"
        if not stat.S_ISREG(found.st_mode):
            return f"{name} is gone"
        if found.st_size != record.size:
            return f"{name} is damaged: {found.st_size} bytes instead of {record.size}"
        written[name] = max(own.st_mtime_ns, found.st_mtime_ns)
    try:
        sealed = (folder / MANIFEST).stat().st_mtime_ns if only_rewritten else None
        for name, record in manifest.files.items():
            if _digest(folder / name, written[name], sealed) not in (None, record.sha256):
                return f"{name} is damaged: its content is not what was written"
    except FileNotFoundError as error:
        return f"{Path(error.filename).name} is gone"
    return None


def _digest(path: Path, written: int, sealed: int | None) -> str | None:
    """SHA-256 of a file; None if it was not written after `sealed`."""
    if sealed is None:
        return file_digest(path)
    return _digest_at(path, written) if written > sealed else None


@cache
def _digest_at(path: Path, _written: int) -> str:
    """SHA-256 of a file, which is read once a process until it is written to again."""
    return file_digest(path)


def distrust(folder: Path, manifest: Manifest) -> None:
    """Let plans read an artifact whose damage its files' times do not tell: as if they were written after the manifest."""
    later = (folder / MANIFEST).stat().st_mtime_ns + 10**9
    for name in manifest.files:
        with suppress(OSError):  # it is gone, or not ours: then a run cannot mend it either
            os.utime(folder / name, ns=(later, later), follow_symlinks=False)


def open_scratch(folder: Path, inputs: Mapping[str, tuple[InputRecord, ...]]) -> None:
    """Prepare an artifact's scratch; it is emptied if it was made from other inputs."""
    scratch = folder / SCRATCH
    if scratch.is_symlink() or not _matches_inputs(scratch, inputs):
        remove(scratch)
        scratch.mkdir()
        write_atomically(scratch / _INPUTS_FILE, _inputs_digest(inputs))
    drop_partials(scratch, seconds=0)  # the lock is held, so nobody else writes there


def has_checkpoint(folder: Path, inputs: Mapping[str, tuple[InputRecord, ...]]) -> bool:
    """True if an unfinished artifact has a checkpoint made from these inputs."""
    scratch = folder / SCRATCH
    own = {_INPUTS_FILE, _SECONDS_FILE}
    return _matches_inputs(scratch, inputs) and any(path.name not in own for path in scratch.iterdir())


def seconds_spent(folder: Path) -> float:
    """Seconds that earlier turns of an unfinished task took."""
    path = folder / SCRATCH / _SECONDS_FILE
    try:
        return float(path.read_text("utf-8"))
    except (OSError, ValueError):
        return 0.0


def store_seconds(folder: Path, seconds: float) -> None:
    """Store what all turns of an unfinished task took, beside its checkpoint."""
    if (folder / SCRATCH).is_dir():
        write_atomically(folder / SCRATCH / _SECONDS_FILE, f"{seconds:.3f}\n")


def _matches_inputs(scratch: Path, inputs: Mapping[str, tuple[InputRecord, ...]]) -> bool:
    read = scratch / _INPUTS_FILE
    return read.is_file() and read.read_text(encoding="utf-8") == _inputs_digest(inputs)


def _inputs_digest(inputs: Mapping[str, tuple[InputRecord, ...]]) -> str:
    return digest({name: [record.model_dump() for record in group] for name, group in inputs.items()})


def clear(folder: Path, keep_scratch: bool = True) -> None:
    """Remove all files of an earlier attempt except its checkpoint."""
    for path in folder.iterdir():
        if path.name == LOCK or (keep_scratch and path.name == SCRATCH):
            continue
        remove(path)


@contextmanager
def lock(folder: Path, should_stop: Callable[[], bool] = lambda: False) -> Iterator[None]:
    """Lock an artifact against writing by other processes; the lock of a dead process is released.

    Waits while another process holds it, with one log line. Raises Interrupted once `should_stop` returns True.
    """
    new_folder(folder)
    path = folder / LOCK
    if path.is_symlink() or (path.exists() and not path.is_file()):  # nobody locks what is none of ours
        remove(path)
    with open(path, "a+", encoding="utf-8", opener=no_link) as file:
        since = time.monotonic()
        logged = False
        while not try_lock(file.fileno()):
            if should_stop():
                raise Interrupted
            if not logged and time.monotonic() - since > _LOG_AFTER_SECONDS:
                logged = True
                file.seek(0)
                log.info("waits: %s is being written by %s", folder, file.read().strip() or "another process")
            time.sleep(0.1)
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
        yield


def is_locked(folder: Path) -> bool:
    """True if a process holds the lock of this artifact."""
    try:
        with open(folder / LOCK, "r+", encoding="utf-8", opener=no_link) as file:
            return not try_lock(file.fileno())
    except (OSError, TiebreakError):  # there is none, or a link or a pipe in its place
        return False


def try_lock(descriptor: int) -> bool:
    """Lock an open file until it is closed; False while another process holds it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        # some cluster file systems have no locks; there the scheduler keeps tasks apart
        return error.errno in (errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK)
    return True
