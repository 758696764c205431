"""Setup of every test: offline, seeded, one thread a process; real data, a finished tiny run, a real Slurm."""

import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

# before torch is imported: more threads than cores make tiny models slower, and sums differ with their number
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
if not Path("/dev/nvidiactl").exists():
    os.environ["TRITON_INTERPRET"] = "1"  # before anything imports Triton: its kernels then run on a CPU

import numpy as np
import pytest
from filelock import FileLock

REPOSITORY = Path(__file__).resolve().parents[1]
MOST_WORKERS = 8
"""Each holds torch and a few tiny models: about a GB."""

ON_SLURM = {"test_nine_scripts", "test_slurm_ranks", "test_slurm_real"}
"""Files that share one sandbox."""

APART = {"test_benchmarks", "test_docs", "test_kill", "test_kill_steps", "test_killed", "test_multiprocess"}
"""Files of long tests that share nothing but what is made once for all workers."""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """A worker a core, hyperthreads too, and one more: many tests wait for other processes."""
    return min(len(os.sched_getaffinity(0)) + 1, MOST_WORKERS)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """One worker runs the tests of a scope: xdist's own marks for that have no effect in pytest 9.2."""
    from xdist.scheduler import LoadScopeScheduling

    class Scopes(LoadScopeScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            return scope(nodeid)

    return Scopes(config, log)


def scope(nodeid: str) -> str:
    """The file, whose tests share fixtures, but for files named above."""
    file = Path(nodeid.partition("::")[0]).stem
    if file in ON_SLURM:
        return "slurm"
    return nodeid if file in APART else nodeid.partition("::")[0]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What is slow comes first, so that no worker is left with it at the end; before all else Slurm, which mostly waits."""
    items.sort(
        key=lambda item: (
            scope(item.nodeid) != "slurm",
            not any(map(item.get_closest_marker, ("thorough", "nightly"))),
            item.get_closest_marker("slow") is None,
        )
    )


@pytest.fixture(autouse=True)
def _seeded() -> None:
    random.seed(0)
    np.random.seed(0)
    if torch := sys.modules.get("torch"):
        torch.manual_seed(0)


@pytest.fixture(scope="session")
def repository() -> Path:
    return REPOSITORY


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real votes, kept beside the repository or where TIEBREAK_TEST_DATA says."""
    folder = Path(os.environ.get("TIEBREAK_TEST_DATA", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"real votes are not at {folder}; name their folder in TIEBREAK_TEST_DATA")
    return folder


@pytest.fixture
def tiebreak(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Run the command in this process: tiebreak("plan", ...) -> exit code, stdout, stderr."""
    from tiebreak import cli
    from tiebreak.cli import runs
    from tiebreak.engine.signals import Stop

    monkeypatch.setattr(runs, "stop", Stop())

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["tiebreak", *map(str, arguments)])
        monkeypatch.setattr(Stop, "install", lambda self: self)
        with pytest.raises(SystemExit) as end:
            cli.main()
        seen = capfd.readouterr()
        return int(end.value.code or 0), seen.out, seen.err

    return run


@pytest.fixture
def few_trees(monkeypatch: pytest.MonkeyPatch) -> None:
    """The baseline's trees, most of a tiny run's time, are as many as the forked processes of tests have."""
    from forked import MOST_TREES

    from tiebreak.baseline import model

    monkeypatch.setitem(model.TREES, "max_iter", MOST_TREES)


@dataclass(frozen=True)
class TinyRun:
    """A finished demo with few votes: its folder, what it printed last, and where its pieces are."""

    folder: Path
    summary: dict[str, Any]

    @property
    def model(self) -> Path:
        return Path(self.summary["model"])

    @property
    def recipe(self) -> Path:
        return self.folder / "recipe.yaml"


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Callable[[Path], None]], Path]:
    """once(name, make): the folder that `make` fills, by the first worker that asks; to be read, not changed."""
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent

    def folder(name: str, make: Callable[[Path], None]) -> Path:
        made = shared / name
        with FileLock(f"{made}.lock"):
            if not (made / "made").exists():
                shutil.rmtree(made, ignore_errors=True)
                made.mkdir()
                make(made)
                (made / "made").touch()
        return made

    return folder


@pytest.fixture(scope="session")
def tiny_run(once: Callable[..., Path]) -> TinyRun:
    """The demo on 300 votes, about half a minute; read it, copy it, but leave it as it is."""

    def make(folder: Path) -> None:
        from forked import Tiebreak

        output = Tiebreak("demo", folder / "demo", "--votes", "300").finish()
        (folder / "summary.json").write_text(output.splitlines()[-1])

    folder = once("tiny", make)
    return TinyRun(folder / "demo", json.loads((folder / "summary.json").read_text()))


@dataclass(frozen=True)
class RealSlurm:
    """`sandbox` is the script that can stop and start daemons; None on somebody's cluster."""

    sandbox: Path | None

    def do(self, verb: str, daemon: str) -> None:
        """Stop, start or restart a daemon."""
        if self.sandbox is None:
            pytest.skip("only a sandbox lets its daemons be stopped")
        subprocess.run([self.sandbox, verb, daemon], check=True, capture_output=True)


@pytest.fixture
def hold(tmp_path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file: other processes stand still in a training after the step whose number is written into it."""
    paths = (str(repository / "tests"), os.environ.get("PYTHONPATH", ""))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))
    monkeypatch.setenv("HOLD", str(tmp_path / "hold"))
    (tmp_path / "hold").touch()
    return tmp_path / "hold"


@pytest.fixture(scope="session")
def real_slurm(repository: Path) -> Iterator[RealSlurm]:
    sandbox = Path(os.environ.get("TIEBREAK_SLURM_SANDBOX", repository.parent / "shared" / "slurm-sandbox"))
    if not sandbox.is_file():
        if shutil.which("sbatch") is None:
            pytest.skip(f"no Slurm: neither sbatch nor {sandbox} (TIEBREAK_SLURM_SANDBOX) is here")
        answer = subprocess.run(["sinfo"], capture_output=True, text=True, check=False)
        if answer.returncode:
            pytest.skip(
                f"no Slurm: sbatch is here, but no controller answers: {answer.stderr.strip()[-200:]}"
            )
        yield RealSlurm(None)
        return
    folder = mkdtemp(prefix="tb-slurm-", dir="/tmp")
    before = dict(os.environ)
    os.environ |= {"SLURM_SANDBOX_DIR": folder, "SLURM_SANDBOX_PORT": str(random.randrange(20000, 60000, 20))}
    Path(folder, "limits.conf").write_text("AccountingStorageEnforce=limits\n")
    os.environ["SLURM_SANDBOX_EXTRA_CONF"] = f"{folder}/limits.conf"
    try:
        up = subprocess.run([sandbox, "up"], capture_output=True, text=True, check=False)
        if up.returncode:
            pytest.skip(f"the Slurm sandbox does not come up: {up.stderr.strip()[-300:]}")
        os.environ["SLURM_CONF"] = f"{folder}/etc/slurm.conf"
        yield RealSlurm(sandbox)
    finally:
        subprocess.run([sandbox, "down", "--purge"], capture_output=True, check=False)
        os.environ.clear()
        os.environ.update(before)
