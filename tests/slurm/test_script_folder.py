"""Folder of the nine scripts: what is written, and what is submitted."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tiebreak.commands.init import init_recipe
from tiebreak.errors import TiebreakError
from tiebreak.slurm import client, script_folder
from tiebreak.slurm.numbered_scripts import SCRIPTS, Start, unheard_of


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of scripts with a recipe of made-up votes."""
    place = tmp_path / "my folder" / "judge"
    init_recipe(place, "tiny", synthetic=160)
    script_folder.write(place)
    return place


@pytest.fixture
def submitted(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Sequence[str], dict[str, str], Path]]:
    """What is submitted; jobs are numbered from 101."""
    found: list[tuple[str, Sequence[str], dict[str, str], Path]] = []

    def submit(text: str, options: Sequence[str], variables: dict[str, str], place: Path) -> str:
        found.append((text, options, variables, place))
        return str(100 + len(found))

    monkeypatch.setattr(client, "submit", submit)
    return found


def test_scripts_are_written_and_what_is_there_stays(tmp_path: Path) -> None:
    (tmp_path / "profile.sh").write_text("mine")
    made = script_folder.write(tmp_path)
    assert {path.name for path in made} == {f"{name}.sh" for name in SCRIPTS.values()} | {"run_step.sh"}
    assert (tmp_path / "profile.sh").read_text() == "mine"
    assert script_folder.write(tmp_path) == []


@pytest.mark.parametrize("name", ["profile.sh", "step9_eval.sh"])
def test_nothing_is_made_where_a_dangling_link_leads(tmp_path: Path, name: str) -> None:
    place, outside = tmp_path / "scripts", tmp_path / "outside.sh"
    place.mkdir()
    (place / name).symlink_to(outside)
    with pytest.raises(TiebreakError, match=f"{name} is a link or leads out of"):
        script_folder.write(place)
    assert not outside.exists()
    outside.write_text("# ours\n")
    script_folder.write(place)
    assert outside.read_text() == "# ours\n", "a link to a script that is there stays, as a file does"


def test_the_profile_finds_this_tiebreak_in_jobs(folder: Path) -> None:
    shell = ["bash", "-c", 'source ./profile.sh; echo "$PATH"']
    inside = subprocess.run(
        shell, cwd=folder, env=os.environ | {"SLURM_JOB_ID": "1"}, capture_output=True, text=True, check=True
    )
    assert inside.stdout.startswith(f"{Path(sys.executable).parent}:")
    outside = subprocess.run(shell, cwd=folder, capture_output=True, text=True, check=True)
    assert outside.stdout.strip() == os.environ["PATH"]


def test_all_are_submitted_each_behind_the_one_before(folder: Path, submitted, monkeypatch) -> None:
    monkeypatch.setenv("SBATCH_PARTITION", "gpu")
    monkeypatch.setenv("FOLDS", "0")
    jobs = script_folder.submit(folder, ["--mem=8G"])
    assert list(jobs) == [SCRIPTS[step] for step in (2, 1, 3, 4, 5, 6, 7, 8, 9)]
    for n, (text, options, variables, place) in enumerate(submitted):
        assert f"--job-name={list(jobs)[n]}\n" in text
        dependency = [f"--dependency=afterok:{100 + n}"] if n else []
        assert list(options) == [*dependency, "--kill-on-invalid-dep=yes", "--mem=8G"]
        assert variables == {"SBATCH_PARTITION": "gpu", "SCRATCH_BASE": str(folder / "scratch")}
        assert place == folder
    assert not (folder / "scratch").exists()


@pytest.mark.parametrize(
    ("name", "value"),
    [("RUN_STAGE", "gema"), ("FOLDS", "7"), ("TEACHER_MAX_STEP", "7"), ("USE_WEIGHTED", "2")],
)
def test_an_invalid_variable_of_any_step_is_refused_before_anything(
    folder: Path, submitted, monkeypatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(TiebreakError, match=name):
        script_folder.submit(folder)
    assert not submitted
    assert not (folder / "scratch").exists()


def test_where_a_job_is_not_taken_none_is_left(folder: Path, monkeypatch) -> None:
    cancelled: list[Sequence[str]] = []

    def submit(text: str, *_: object) -> str:
        if "step4" in text:
            raise TiebreakError("sbatch failed: no more")
        return "7"

    monkeypatch.setattr(client, "submit", submit)
    monkeypatch.setattr(client, "cancel", cancelled.append)
    with pytest.raises(TiebreakError, match="no more"):
        script_folder.submit(folder)
    assert cancelled == [["7", "7", "7"]]


def test_a_folder_without_scripts_says_how_to_write_them(tmp_path: Path) -> None:
    with pytest.raises(TiebreakError, match=r"no profile.sh in .*tiebreak slurm init FOLDER --preset sc4000"):
        script_folder.submit(tmp_path)


@pytest.mark.parametrize(
    ("profile", "told"),
    [
        (None, "profile.sh in {folder} is missing or fails"),
        ("false", "profile.sh in {folder} is missing or fails"),
        ("PATH=/usr/bin:/bin", "there is no tiebreak in this job; let {folder}/profile.sh activate"),
    ],
)
def test_a_script_that_cannot_start_says_what_to_mend(folder: Path, profile: str | None, told: str) -> None:
    (folder / "profile.sh").unlink()
    if profile:
        (folder / "profile.sh").write_text(f"{profile}\n")
    done = subprocess.run(
        ["bash", folder / "step2_make_folds.sh"],
        env={**os.environ, "SLURM_JOB_ID": "17", "SLURM_SUBMIT_DIR": str(folder), "SCRATCH_BASE": "/a b/c"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert told.format(folder=folder) in done.stderr
    assert unheard_of(folder) == [Start(17, 2, "/a b/c")]
