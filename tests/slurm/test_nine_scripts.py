"""The nine commands, as a user types them one after another, on a real Slurm with tiny models."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tiebreak.commands.init import init_recipe
from tiebreak.slurm import client, script_folder
from tiebreak.slurm.numbered_scripts import SCRIPTS

SMALLER = {"15000-20000": "40-60", "20000": "80", "300": "3", "EPOCHS=2": "EPOCHS=1"}
TIEBREAK = Path(sys.executable).parent / "tiebreak"


def commands(repository: Path, scratch: Path) -> str:
    """The commands of docs/slurm.md, with smaller numbers."""
    page = (repository / "docs" / "slurm.md").read_text()
    (text,) = re.findall(r"as they stand:\n\n((?:    .*\n)+)", page)
    assert text.count("sbatch step") == 10
    for large, small in SMALLER.items():
        assert large in text
        text = text.replace(large, small)
    return "set -e\n" + text.replace("/scratch/x", str(scratch))


def tiebreak(*arguments: object) -> str:
    done = subprocess.run([TIEBREAK, *map(str, arguments)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def wait_until_idle(folder: Path, seconds: float = 1200) -> None:
    deadline = time.monotonic() + seconds
    while any(Path(job.folder) == folder for job in client.queued()):
        assert time.monotonic() < deadline, client.queued()
        time.sleep(1)


def payload(scratch: Path) -> dict[str, object]:
    """The hashes of every artifact."""
    manifests = sorted(scratch.glob("run/artifacts/*/*/manifest.json"))
    return {path.parent.name: json.loads(path.read_text())["files"] for path in manifests}


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, real_slurm: object) -> Path:
    """A recipe in another folder, and `tiebreak` on the PATH."""
    made = init_recipe(tmp_path / "site", "tiny", synthetic=160)
    made.write_text(made.read_text().replace("workers: 2", "workers: 1"))
    monkeypatch.setenv("PATH", f"{TIEBREAK.parent}:{os.environ['PATH']}")
    return made


@pytest.mark.thorough
def test_the_nine_commands_in_a_row(
    tmp_path: Path, repository: Path, recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From a home folder that has nothing but copies of the scripts, a job is back in the queue once at most."""
    scripts, scratch = tmp_path / "home", tmp_path / "scratch"
    scripts.mkdir()
    for file in (repository / "slurm").glob("*.sh"):
        shutil.copy(file, scripts)
    monkeypatch.setenv("RECIPE", str(recipe))
    typed = commands(repository, scratch)
    subprocess.run(["bash", "-c", typed], cwd=scripts, check=True, capture_output=True)
    wait_until_idle(scripts)
    logs = {path.name: path.read_text() for path in scripts.glob("*.log")}
    for name in SCRIPTS.values():
        assert any(log.startswith(f"{name}-") for log in logs), logs.keys()
    assert {row["state"] for row in json.loads(tiebreak("plan", scratch, "--json"))} == {"fresh"}, logs
    assert max(log.count("back to the queue") for log in logs.values()) <= 1, logs
    (last,) = (log for name, log in logs.items() if name.startswith("step9"))
    submission = scratch / "run" / "submission.csv"
    assert f"submission: {submission}" in last
    test_pairs = pq.read_table(recipe.parent / "data" / "test.parquet")
    assert len(submission.read_text().splitlines()) == 1 + len(test_pairs)
    assert sorted(path.name for path in scripts.glob(".*")) == [".scratch_base", ".starts"]

    again = tmp_path / "again"
    again.mkdir()
    shutil.copy(scratch / "recipe.yaml", again)
    tiebreak("run", again)
    assert payload(again) == payload(scratch)


@pytest.mark.thorough
def test_scripts_that_are_submitted_elsewhere_and_all_at_once(
    tmp_path: Path, recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step from another folder leaves its log there and works in its own; what is submitted in one go is never requeued."""
    scripts, elsewhere = recipe.parent, tmp_path / "elsewhere"
    script_folder.write(scripts)
    elsewhere.mkdir()
    options = ["--wait", "../site/step2_make_folds.sh", "--set", "split.count=3"]
    subprocess.run(["sbatch", *options], cwd=elsewhere, check=True, capture_output=True)
    (log,) = elsewhere.glob("step2_make_folds-*.log")
    assert "ingest/votes" in log.read_text()
    assert (scripts / "scratch" / "run" / "artifacts" / "split").is_dir()
    for name, value in {"TEACHER_FOLDS": "0", "INFER_FOLDS": "0", "FOLDS": "0", "SKIP_QWEN": "1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("INFER_MODELS", "llama")
    tiebreak("slurm", "submit", scripts)
    wait_until_idle(scripts)
    logs = {path.name: path.read_text() for path in scripts.glob("*.log")}
    assert len(logs) == 9
    assert not any("back to the queue" in log for log in logs.values())
    assert (scripts / "scratch" / "run" / "submission.csv").is_file(), logs
