"""What every test shares: offline, seeded, one thread a process; the real data and one finished tiny run."""

import json
import os
import random
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# before torch is imported: more threads than cores make tiny models slower, and sums differ with their number
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
if not Path("/dev/nvidiactl").exists():
    os.environ["TRITON_INTERPRET"] = "1"  # before anything imports Triton: its kernels then run on a CPU

import numpy as np
import pytest

REPOSITORY = Path(__file__).resolve().parents[1]


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
def tiny_run(tmp_path_factory: pytest.TempPathFactory) -> TinyRun:
    """The demo on 300 votes, about half a minute; read it, copy it, but leave it as it is."""
    folder = tmp_path_factory.mktemp("tiny") / "demo"
    tiebreak = Path(sys.executable).parent / "tiebreak"
    command = [tiebreak, "demo", folder, "--votes", "300"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return TinyRun(folder, json.loads(done.stdout.splitlines()[-1]))
