"""What tests of several commands share."""

from pathlib import Path

import pytest
from shipped_judge import ship


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder as a run ships it; to be read, not changed."""
    return ship(tmp_path_factory.mktemp("shipped") / "model", seed=0)
