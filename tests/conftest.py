"""What every test shares: offline, seeded, one thread a process; the real data and one finished tiny run."""

import os
import random
import sys
from pathlib import Path

# before torch is imported: more threads than cores make tiny models slower, and sums differ with their number
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

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
