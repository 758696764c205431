"""Damaged recipes, model folders, adapters, packages and manifests."""

import time
from pathlib import Path

import fuzz_folders
import fuzzing
import nightly
import pytest

FEW, MANY = range(50), range(50, 500)


@pytest.mark.parametrize("name", fuzz_folders.TARGETS)
def test_damaged_folders(tmp_path: Path, name: str) -> None:
    fuzzing.run(name, range(3), tmp_path)


@pytest.mark.thorough
@pytest.mark.parametrize("name", fuzz_folders.TARGETS)
def test_fifty_damaged_folders_of_each_kind(tmp_path: Path, name: str) -> None:
    assert fuzzing.run(name, FEW, tmp_path) > 0


@pytest.mark.nightly
@pytest.mark.parametrize("name", fuzz_folders.TARGETS)
def test_five_hundred_damaged_folders_of_each_kind(tmp_path: Path, name: str) -> None:
    began = time.monotonic()
    readable = sum(fuzzing.run(name, cases, tmp_path) for cases in (FEW, MANY))
    assert readable > 5
    count = len(FEW) + len(MANY)
    nightly.add(f"damaged: {name}", count, time.monotonic() - began, f"{readable} could be read")
