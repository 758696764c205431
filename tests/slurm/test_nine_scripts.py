"""The nine commands, as a user types them one after another, on a real Slurm with tiny models."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tiebreak.commands.init import init_recipe
from tiebreak.slurm import client
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


@pytest.mark.thorough
def test_the_nine_commands_in_a_row(
    tmp_path: Path, repository: Path, real_slurm: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripts, scratch = tmp_path / "slurm", tmp_path / "scratch"
    shutil.copytree(repository / "slurm", scripts)
    recipe = init_recipe(tmp_path / "site", "tiny", synthetic=160)
    settings = recipe.read_text().replace("workers: 2", "workers: 1")
    recipe.write_text(settings)
    monkeypatch.setenv("RECIPE", str(recipe))
    monkeypatch.setenv("PATH", f"{TIEBREAK.parent}:{os.environ['PATH']}")
    typed = commands(repository, scratch)
    subprocess.run(["bash", "-c", typed], cwd=scripts, check=True, capture_output=True)
    wait_until_idle(scripts)
    logs = {path.name: path.read_text() for path in (scripts / "logs").glob("*.log")}
    for name in SCRIPTS.values():
        assert any(log.startswith(f"{name}-") for log in logs), logs.keys()
    assert {row["state"] for row in json.loads(tiebreak("plan", scratch, "--json"))} == {"fresh"}, logs

    again = tmp_path / "again"
    again.mkdir()
    shutil.copy(scratch / "recipe.yaml", again)
    tiebreak("run", again)
    assert payload(again) == payload(scratch)
