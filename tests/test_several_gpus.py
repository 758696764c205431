"""The benchmark of several cards runs end to end at tiny sizes, over gloo; its figures mean nothing here."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).resolve().parents[1] / "benchmarks" / "several_gpus.py"


def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, str(SCRIPT), *arguments], capture_output=True, text=True, check=False
    )


def test_one_and_two_processes_run_every_arm(tmp_path: Path) -> None:
    kept = tmp_path / "rows.jsonl"
    assert run("--small", "--cards", "1", "--arms", "student", "--rows", str(kept)).returncode == 0
    done = run("--small", "--cards", "1", "2", "--rows", str(kept))
    assert done.returncode == 0, done.stderr
    table, line = done.stdout.strip().split("\n\n")
    rows = json.loads(line)["rows"]
    assert [(row["arm"], row["cards"]) for row in rows] == [
        ("student", 1),
        ("student", 2),
        ("teacher", 1),
        ("teacher", 2),
        ("teacher, spread", 2),
        ("16 bits, spread", 2),
        ("Qwen2-72B", 1),
        ("Qwen2-72B", 2),
    ]
    assert kept.read_text().count('"student", "cards": 1') == 1  # not measured twice
    for row in rows:
        assert row["tokens_per_s"] > 0
        assert f"| {row['arm']} | " in table


def test_a_machine_without_cards_is_told_how_to_try() -> None:
    done = run("--cards", "2")
    assert done.returncode == 1
    assert "--small" in done.stderr
