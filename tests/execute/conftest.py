"""For tests of other processes: trainings that stand still; a real Slurm, of a sandbox or the cluster at hand."""

import os
import random
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp

import pytest


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
