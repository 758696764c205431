"""Full disks: the message names the right one. On file systems of a few hundred kB, in a mount namespace of their own."""

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tiebreak.full_disk import FullDisk, full_disk_as_error

NoisyRun = Callable[..., str]
TMPFS = ["unshare", "-Urm", "sh", "-c", 'mount -t tmpfs -o "$1" none "$2" && shift 2 && exec "$@"', "sh"]


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A folder on which `run` mounts a small file system."""
    folder = tmp_path / "small"
    folder.mkdir()
    return folder


@pytest.fixture
def run(small: Path, tmp_path: Path) -> NoisyRun:
    """Run Python code where `small` is a file system of its own; returns what it prints to both streams."""

    def in_namespace(code: str, mount: str = "size=256k", code_at_end: int = 0, **variables: object) -> str:
        environment = {name: str(value) for name, value in variables.items()}
        own = {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path]), "SMALL": str(small)}
        done = subprocess.run(
            [*TMPFS, mount, small, sys.executable, "-c", code],
            env={**os.environ, **own, **environment},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        if "unshare" in done.stderr or "mount:" in done.stderr:
            pytest.skip(f"no file system can be mounted here: {done.stderr.strip()[-200:]}")
        assert done.returncode == code_at_end, done.stderr
        return done.stdout + done.stderr

    return in_namespace


WRITERS = {
    "text": "write_atomically(place / 'a file', 'x' * 10**6)",
    "parquet": "write_table(pa.table({'x': np.random.default_rng(0).random(10**6)}), place / 'a file')",
    "folder": "\n    with replacing_folder(place / 'a file') as p: save_file({'x': np.zeros(10**6)}, p / 'w')",
    "safetensors": "save_file({'x': np.zeros(10**6)}, place / 'a file')",
    "copy": "(Path('large').write_bytes(bytes(10**6)), shutil.copyfile('large', place / 'a file'))",
}
WRITE = """
import os, shutil
import numpy as np, pyarrow as pa
from pathlib import Path
from safetensors.numpy import save_file
from tiebreak.full_disk import FullDisk, full_disk_as_error
from tiebreak.output import replacing_folder, write_atomically
from tiebreak.votes.schema import write_table
place = Path(os.environ["SMALL"])
try:
  with full_disk_as_error(place):
    {writer}
except FullDisk as error:
    print(error)
"""


@pytest.mark.parametrize("writer", WRITERS)
def test_every_writer_names_the_disk(run: NoisyRun, small: Path, writer: str) -> None:
    out = run(WRITE.replace("{writer}", WRITERS[writer]))
    assert out.startswith(("the disk is full: ", f"the disk is full, that of {small}"))
    assert f"file system {small}: " in out
    assert out.endswith("run the same command again\n")
    if writer in ("text", "parquet"):
        assert f"cannot write {small / 'a file'} (file system {small}: 0.0 MiB of 0.2 MiB free)" in out


TEMPORARY = """
import os, tempfile
from pathlib import Path
from tiebreak.full_disk import FullDisk, full_disk_as_error
place = Path(os.environ["PLACE"])
place.mkdir(parents=True, exist_ok=True)
try:
  with full_disk_as_error(Path.cwd()), open(place / "x", "wb", buffering=0) as file:
    while True: file.write(bytes(65536))
except FullDisk as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("variable", "below"), [("TMPDIR", ""), ("HF_HOME", "hub"), ("TRITON_CACHE_DIR", "")]
)
def test_another_disk_than_that_of_the_output(run: NoisyRun, small: Path, variable: str, below: str) -> None:
    out = run(TEMPORARY, PLACE=small / below, **{variable: small})
    assert out.startswith(
        f"the disk is full: {small / below} has no room (file system {small}: 0.0 MiB of 0.2 MiB"
    )
    assert f"or set {variable}" in out


def test_no_more_files(run: NoisyRun, small: Path) -> None:
    code = WRITE.replace(
        "{writer}", "[(place / str(n)).touch() for n in range(90)]; write_atomically(place / 'y', '')"
    )
    out = run(code, mount="size=1m,nr_inodes=50")
    assert f"(file system {small}: no more files, 50 are there)" in out


RUN = """
import sys
sys.argv = ["tiebreak", *sys.argv[1:]]
import os, fake_steps
from pathlib import Path
place = Path(os.environ["SMALL"])
recipe = fake_steps.write(Path("elsewhere"))
recipe.write_text(recipe.read_text() + f"run_dir: {place / 'run'}\\n")
def fill(settings, inputs, output, runtime):
    (output / "large.bin").write_bytes(bytes(10**6))
if os.fork() == 0:
    import tiebreak.pipeline.step
    object.__setattr__(fake_steps.READ, "run", fill)
    fake_steps.use(setattr)
    from tiebreak import cli
    sys.argv = ["tiebreak", "task", str(recipe), "ingest/votes"]
    cli.main()
_, status = os.wait()
print("exit code", os.waitstatus_to_exitcode(status), flush=True)
sys.argv = ["tiebreak", "status", str(recipe)]
fake_steps.use(setattr)
from tiebreak import cli
cli.main()
"""


def test_a_task_on_a_full_disk_ends_with_2_and_status_tells(run: NoisyRun, small: Path) -> None:
    out = run(RUN)
    _, _, status = out.partition("exit code")
    assert status.startswith(" 2\n")
    assert "ingest/votes" in status
    assert "the disk is full: " in status
    assert f"file system {small}" in " ".join(out.split())


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (
            OSError(errno.ENOSPC, "No space left on device", "/nowhere/a"),
            "the disk is full: cannot write /nowhere/a (",
        ),
        (
            OSError(errno.EDQUOT, "Disk quota exceeded", "/nowhere/a"),
            "your quota is used up: cannot write /nowhere/a (",
        ),
        (
            RuntimeError("I/O error: No space left on device (os error 28)"),
            "the disk is full, that of /nowhere (",
        ),
    ],
)
def test_errors_of_libraries(error: Exception, text: str) -> None:
    with pytest.raises(FullDisk) as found, full_disk_as_error(Path("/nowhere")):
        raise error
    assert str(found.value).startswith(text)
    with pytest.raises(ValueError, match="of ours"), full_disk_as_error(Path("/nowhere")):
        raise ValueError("of ours")


def test_the_remedy_is_that_of_the_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable that leads elsewhere is named for what lies in its folder, and not for a run that happens to lie there too."""
    monkeypatch.setenv("HF_HOME", "/nowhere/hub's")
    monkeypatch.setenv("TMPDIR", "/nowhere")
    cached = OSError(errno.ENOSPC, "No space left on device", "/nowhere/hub's/hub/models--x/blob")
    with pytest.raises(FullDisk, match="or set HF_HOME"), full_disk_as_error(Path("/nowhere/run")):
        raise cached
    own = OSError(errno.ENOSPC, "No space left on device", "/nowhere/run/x")
    with (
        pytest.raises(FullDisk, match=r"\): free some space there; nothing"),
        full_disk_as_error(Path("/nowhere/run")),
    ):
        raise own


def test_the_innermost_place_is_told() -> None:
    inside = full_disk_as_error(Path("/inside"), is_file=True)
    outside = full_disk_as_error(Path("/outside"))
    with pytest.raises(FullDisk, match="cannot write /inside"), outside, inside:
        raise OSError(errno.ENOSPC, "No space left on device")
