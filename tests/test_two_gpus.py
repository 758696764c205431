"""The benchmark of two cards runs end to end at tiny sizes, over gloo; its figures mean nothing here."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).resolve().parents[1] / "benchmarks" / "two_gpus.py"


def test_two_processes_run_every_arm() -> None:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run([*torchrun, str(SCRIPT), "--small"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    table, line = done.stdout.strip().split("\n\n")
    found = json.loads(line)
    assert [row["cards"] for row in found["rows"]] == [1, 2, 2, 2]
    for row in found["rows"]:
        assert row["tokens_per_s"] > 0
        assert f"| {row['arm']} | " in table


def test_one_process_is_told_how_to_start_two() -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--small"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "torchrun --nproc-per-node 2" in done.stderr
