"""Exports of a run's graph: as a Snakemake workflow, which the real tool runs, and as a SkyPilot task."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import fake_steps
import pytest
import yaml

from tiebreak.commands.export import skypilot, snakemake
from tiebreak.engine import local_runner
from tiebreak.engine.workspace import Workspace
from tiebreak.errors import TiebreakError

SNAKEMAKE = os.environ.get("TIEBREAK_SNAKEMAKE") or shutil.which("snakemake")


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """A recipe over the fake steps, and a `tiebreak` that knows them."""
    tool = tmp_path / "bin" / "tiebreak"
    tool.parent.mkdir()
    paths = os.pathsep.join([str(Path(fake_steps.__file__).parent), os.environ.get("PYTHONPATH", "")])
    (tool.parent / "fake_tiebreak.py").write_text(fake_steps.COMMAND)
    command = f'PYTHONPATH="{paths}" exec {sys.executable} "{tool.parent}/fake_tiebreak.py" "$@"'
    tool.write_text(f"#!/bin/sh\n{command}\n")
    tool.chmod(0o755)
    monkeypatch.setattr(snakemake, "tiebreak_command", lambda: tool)
    return Workspace(fake_steps.write(tmp_path / "a run"), (), fake_steps.tasks)


def test_each_task_is_a_rule_from_its_inputs_manifests_to_its_own(work: Workspace, tmp_path: Path) -> None:
    text = snakemake.export(work, tmp_path / "Snakefile").read_text()
    assert re.findall(r"^rule (\w+):", text, re.M) == [
        "all", "ingest_votes", "train_fold0", "train_fold1", "train_fold2", "join_all",
    ]  # fmt: skip
    rule = text.partition("rule train_fold1:")[2].partition("\nrule ")[0]
    read, made = (work.folder(work.find(task)) / "manifest.json" for task in ("ingest/votes", "train/fold1"))
    assert f"input:\n        '{read}'" in rule
    assert f"output:\n        '{made}'" in rule
    assert f"{work.frozen_path}' train/fold1" in rule
    assert "gpu=" not in rule


def test_a_run_folder_that_would_be_read_as_wildcards_is_refused(work: Workspace, tmp_path: Path) -> None:
    odd = Workspace(work.path, ('run_dir="{x}"',), fake_steps.tasks)
    with pytest.raises(TiebreakError, match=r"has braces, which Snakemake takes for wildcards"):
        snakemake.export(odd, tmp_path / "Snakefile")


@pytest.mark.slow
@pytest.mark.skipif(SNAKEMAKE is None, reason="no snakemake here (TIEBREAK_SNAKEMAKE)")
def test_the_real_tool_runs_it_and_goes_on_where_it_failed(
    work: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One task fails; the second time only it and what needs it are made. The result is that of `tiebreak run`."""
    snakemake.export(work, tmp_path / "Snakefile")
    command = [str(SNAKEMAKE), "--cores", "2", "--keep-going", "--quiet", "progress"]

    def run() -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    monkeypatch.setenv("FAKE_FAIL", "train/fold1")
    assert run().returncode == 1
    assert not work.manifest(work.find("join/all"))
    first = work.manifest(work.find("train/fold0"))
    monkeypatch.delenv("FAKE_FAIL")
    done = run()
    assert done.returncode == 0, done.stderr
    assert work.manifest(work.find("train/fold0")) == first
    here = Workspace(fake_steps.write(tmp_path / "here"), (), fake_steps.tasks)
    local_runner.run(here, here.tasks)
    assert fake_steps.payload(work.run_dir) == fake_steps.payload(here.run_dir)


def test_a_cloud_machine_runs_the_whole_recipe(work: Workspace, tmp_path: Path) -> None:
    path = skypilot.export(work, tmp_path / "sky.yaml", "H100", spot=True, bucket="s3://mine")
    task = yaml.safe_load(path.read_text())
    assert task["resources"] == {"accelerators": "H100:1", "use_spot": True, "disk_size": 500}
    assert task["file_mounts"] == {
        "~/judge": str(work.root), "/artifacts": {"source": "s3://mine", "mode": "MOUNT"},
    }  # fmt: skip
    assert task["run"] == "tiebreak run ~/judge/recipe.yaml --set run_dir=/artifacts/run"
