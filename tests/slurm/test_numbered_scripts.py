"""Numbered scripts over a scratch folder: the tasks of each step, and the variables stored for later ones."""

import errno
import fcntl
import json
import shlex
import shutil
from pathlib import Path

import pytest
import yaml
from tiny_models import base

from tiebreak.engine.artifacts import Manifest
from tiebreak.engine.workspace import Workspace
from tiebreak.errors import TiebreakError
from tiebreak.recipe import loader
from tiebreak.recipe.schema import Recipe
from tiebreak.slurm.numbered_scripts import STARTS, Job, outlook, prepare, scratch_base

SITE = """
name: site
data: {votes: [votes.csv], preferences: [pairs.csv]}
models:
  teachers: {llama: {base: models/a}, qwen: {base: models/a}}
  student: {base: models/a}
split: {count: 3}
"""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A site's recipe and what it names."""
    folder = tmp_path / "site"
    shutil.copytree(base("llama"), folder / "models" / "a")
    for name in ("votes.csv", "pairs.csv"):
        (folder / name).write_text("id\n")
    (folder / "recipe.yaml").write_text(SITE)
    return folder


def do(site: Path, step: int, **environment: str) -> Job:
    return prepare(step, environment, site / "recipe.yaml", site)


def variables(line: str) -> dict[str, str]:
    """The variables in front of a command, as a shell reads them."""
    return dict(word.split("=", 1) for word in shlex.split(line))


def names(job: Job, step: str) -> list[str]:
    return [task.name for task in job.tasks if task.step.name == step]


def kept(site: Path) -> Recipe:
    return loader.load(site / "scratch" / "recipe.yaml")


def test_the_users_nine_commands(site: Path, tmp_path: Path) -> None:
    base = tmp_path / "x"
    job = do(site, 1, RUN_STAGE="gemma", SCRATCH_BASE=str(base))
    assert names(job, "post_pretrain") == ["student"]
    assert names(job, "split") == ["votes"]
    assert job.work.path == base / "recipe.yaml"
    assert [task.step.name for task in do(site, 2).tasks] == ["ingest", "ingest", "split", "baseline"]
    job = do(
        site, 3, **variables('TEACHER_SUBSET_SIZE=20000 TEACHER_MAX_STEPS=300 TEACHER_FOLDS="0" SKIP_QWEN=1')
    )
    assert names(job, "teach") == ["llama-fold0"]
    infer = "INFER_FOLDS=0 INFER_MODELS=llama INFER_PREFER_LORA=1 INFER_LLAMA_SUBSET=15000-20000"
    job = do(site, 4, **variables(f"{infer} INFER_LOGPROB_BATCH=8 INFER_PROGRESS_EVERY=5"))
    assert names(job, "score") == ["llama-fold0-1of1"]
    assert names(do(site, 5, FOLDS="0", STUDENT_EPOCHS="2"), "distill") == ["fold0"]
    for step in (6, 7, 8, 9):
        job = do(site, step)
    known = job.work.recipe
    assert known.teach.subset_votes == 20000
    assert known.teach.training.max_steps == 300
    assert known.logits.subset_votes_of == {"llama": (15000, 20000)}
    assert (known.compute.score_tokens, known.compute.log_every) == (8 * 1024, 5)
    assert known.distill.training.epochs == 2
    assert list(known.models.teachers) == ["llama"]
    assert known.folds("distill") == (0,)
    assert [task.name for task in job.work.find("average/student").inputs["students"]] == ["fold0"]


def test_run_resumes_the_scripts_run(site: Path) -> None:
    job = do(site, 3, TEACHER_FOLDS="1", TEACHER_EPOCHS="3")
    again = Workspace(site / "scratch" / "recipe.yaml")
    for task in job.tasks:
        assert again.key(again.find(task.id)) == job.work.key(task)


def test_what_is_set_by_hand_wins_and_is_kept_as_variables_are(site: Path) -> None:
    """Locations are those of the site's recipe."""
    shutil.copytree(base("qwen2"), site / "models" / "b")
    sets = ["teach.training.epochs=1.5", "models.student.base=models/b"]
    job = prepare(3, {"TEACHER_EPOCHS": "3"}, site / "recipe.yaml", site, sets)
    assert job.work.recipe.teach.training.epochs == 1.5
    later = do(site, 5).work.recipe
    assert later.teach.training.epochs == 1.5
    assert later.models.student.base == str(site / "models" / "b")
    with pytest.raises(TiebreakError, match="did you mean 'teach'"):
        prepare(3, {}, site / "recipe.yaml", site, ["tech.training.epochs=1"])
    assert kept(site) == later


def test_keys_are_those_of_the_sites_own_recipe(site: Path) -> None:
    job, own = do(site, 3), Workspace(site / "recipe.yaml")
    assert {task.id: job.work.key(task) for task in job.work.tasks} == {
        task.id: own.key(task) for task in own.tasks
    }


def test_folds_add_up_over_jobs_and_each_does_its_own(site: Path) -> None:
    assert names(do(site, 3, TEACHER_FOLDS="0"), "teach") == ["llama-fold0", "qwen-fold0"]
    assert names(do(site, 3, TEACHER_FOLDS="2"), "teach") == ["llama-fold2", "qwen-fold2"]
    assert kept(site).folds("teach") == (0, 2)
    assert names(do(site, 4, INFER_FOLDS="2", INFER_MODELS="qwen"), "score") == ["qwen-fold2-1of1"]
    with pytest.raises(TiebreakError, match=r"INFER_FOLDS names \[1\], but the step before has \[0, 2\]"):
        do(site, 4, INFER_FOLDS="1")
    assert kept(site).folds("logits") == (2,)


def test_skipped_teachers_are_added_by_a_later_job(site: Path) -> None:
    first = do(site, 3, SKIP_QWEN="1", TEACHER_FOLDS="0")
    assert list(kept(site).models.teachers) == ["llama"]
    assert names(do(site, 3, SKIP_LLAMA="1", TEACHER_FOLDS="0"), "teach") == ["qwen-fold0"]
    assert sorted(kept(site).models.teachers) == ["llama", "qwen"]
    again = Workspace(first.work.path)  # as the first job's workers read it, even if they start late
    assert all(again.key(again.find(task.id)) == first.work.key(task) for task in first.tasks)


def test_a_teacher_whose_name_begins_as_anothers_is_not_that_other(site: Path) -> None:
    recipe = site / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace("qwen:", "llama-fold2:"))
    do(site, 3, SKIP_LLAMA="1")
    do(site, 4)
    assert sorted(kept(site).models.teachers) == ["llama", "llama-fold2"]
    do(site, 3, SKIP_LLAMA="1")
    assert sorted(kept(site).models.teachers) == ["llama-fold2"]


def test_a_file_system_without_locks_works(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_lock(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", no_lock)
    assert names(do(site, 2), "split") == ["votes"]


def test_step_6_averages_exactly_the_folds_it_is_told(site: Path) -> None:
    do(site, 5, FOLDS="0")
    do(site, 5, FOLDS="1")
    assert kept(site).folds("distill") == (0, 1)
    do(site, 6, FOLDS="1")
    assert kept(site).folds("distill") == (1,)


def test_shards(site: Path) -> None:
    job = do(site, 4, INFER_TRAIN_SHARDS="4", INFER_TRAIN_SHARD_ID="3", INFER_FOLDS="0", INFER_MODELS="llama")
    assert names(job, "score") == ["llama-fold0-4of4"]
    assert len(names(do(site, 4), "score")) == 2 * 3 * 4
    with pytest.raises(TiebreakError, match="the shards are 0 to 3"):
        do(site, 4, INFER_TRAIN_SHARD_ID="4")


def test_token_budget_follows_the_rows_length(site: Path) -> None:
    do(site, 4, INFER_LOGPROB_BATCH="4", INFER_MAX_SEQ_LEN="512")
    assert kept(site).compute.score_tokens == 2048


def test_adapters_of_every_teacher_change(site: Path) -> None:
    do(site, 1, TEACHER_LORA_R="16", TEACHER_LORA_ALPHA="32")
    assert {(m.lora.rank, m.lora.alpha) for m in kept(site).models.teachers.values()} == {(16, 32.0)}
    assert kept(site).models.student.lora.rank == 64


@pytest.mark.parametrize(
    ("step", "environment", "message"),
    [
        (4, {"INFER_TRAIN_SHARDS": "4", "INFER_TRAIN_SHARD_ID": "4"}, "the shards are 0 to 3"),
        (1, {"RUN_STAGE": "gema", "TEACHER_LORA_R": "7"}, "RUN_STAGE has 'gema'.*did you mean 'gemma'"),
        (3, {"SKIP_QWEN": "1", "SKIP_LLAMA": "1"}, "leave out every teacher"),
        (4, {"INFER_MODELS": "gemma"}, "INFER_MODELS has 'gemma', no teacher here"),
        (5, {"FOLDS": "7"}, r"FOLDS names \[7\]"),
        (3, {"TEACHER_MAX_STEPS": "many"}, "TEACHER_MAX_STEPS='many' should be"),
    ],
)
def test_invalid_variables_are_refused_and_change_nothing(
    site: Path, step: int, environment: dict[str, str], message: str
) -> None:
    do(site, 2)
    before = (site / "scratch" / "recipe.yaml").read_text()
    with pytest.raises(TiebreakError, match=message):
        do(site, step, SCRATCH_BASE="scratch", **environment)
    assert (site / "scratch" / "recipe.yaml").read_text() == before


def test_a_refused_job_does_not_send_the_next_into_the_series_before(site: Path, tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    do(site, 1, SCRATCH_BASE=str(old), SLURM_JOB_ID="8")
    with pytest.raises(TiebreakError, match="RUN_STAGE has 'gema'"):
        do(site, 1, SCRATCH_BASE=str(new), RUN_STAGE="gema", SLURM_JOB_ID="9")
    assert do(site, 2, SLURM_JOB_ID="10").work.path.parent == new
    with pytest.raises(TiebreakError, match="SCRATCH_BASE: "):
        do(site, 1, SCRATCH_BASE="~nosuchuser/x", SLURM_JOB_ID="11")
    with pytest.raises(TiebreakError, match="SCRATCH_BASE: "):
        do(site, 2, SLURM_JOB_ID="12")
    assert sorted(path.name for path in site.glob(".*")) == [".scratch_base"]


def test_a_job_that_died_before_tiebreak_does_not_send_the_next_into_the_series_before(
    site: Path, tmp_path: Path
) -> None:
    """run_step.sh has noted where it was to work."""
    old, new = tmp_path / "old", tmp_path / "new, 'quoted'"
    do(site, 1, SCRATCH_BASE=str(old), SLURM_JOB_ID="8")
    (site / STARTS).write_text(f"8\t1\t{old}\n9\t1\t{new}\n10\t1\t\nhalf a li")
    assert do(site, 2, SLURM_JOB_ID="11").work.path.parent == new
    assert do(site, 2, SLURM_JOB_ID="9").work.path.parent == old, "its own line is not one before it"


def test_errors_speak_of_the_variables(site: Path) -> None:
    with pytest.raises(TiebreakError) as error:
        do(site, 5, FOLDS="3", STUDENT_EPOCHS="2")
    told = str(error.value).splitlines()
    assert told[0].endswith("scratch/recipe.yaml with FOLDS=3 STUDENT_EPOCHS=2:")
    assert told[1].strip() == "recipe: FOLDS names [3], but the step before has [0, 1, 2]"
    with pytest.raises(TiebreakError, match="TEACHER_EPOCHS: "):
        do(site, 3, TEACHER_EPOCHS="1e9")
    with pytest.raises(TiebreakError, match="TEACHER_LORA_R: "):
        do(site, 1, TEACHER_LORA_R="100000000")


def test_a_finished_series_given_again_with_other_values_says_what_it_does(site: Path) -> None:
    def finish(job: Job) -> None:
        for task in job.work.tasks:
            folder = job.work.folder(task)
            folder.mkdir(parents=True, exist_ok=True)
            manifest = Manifest(
                step=task.step.name,
                name=task.name,
                version=task.step.version,
                key=job.work.key(task),
                settings=task.settings.model_dump(mode="json"),
                inputs=job.work.inputs(task),
                files={},
                metrics={},
                seconds=0,
                finished=0,
                versions={},
                hardware={},
            )
            (folder / "manifest.json").write_text(manifest.model_dump_json())

    assert list(outlook(do(site, 6), 6)) == []
    finish(do(site, 6))
    assert list(outlook(do(site, 6), 6)) == ["nothing to do: all of it is made, with these values"]
    again, outdated = outlook(do(site, 6, FOLDS="1"), 6)
    assert again == (
        "made again: average/student (students no longer has distill/fold0; students no longer has distill/fold2)"
    )
    assert outdated == "outdated, so give them again behind this one: steps 7, 8, 9"


def test_the_scratch_folder_is_stored_and_may_change(site: Path, tmp_path: Path) -> None:
    assert do(site, 2).work.path.parent == site / "scratch"
    do(site, 2, SCRATCH_BASE=str(tmp_path / "one"))
    assert do(site, 3).work.path.parent == tmp_path / "one"
    do(site, 1, SCRATCH_BASE=str(tmp_path / "two"))
    assert do(site, 3).work.path.parent == tmp_path / "two"


def test_a_job_stays_in_its_series_when_another_begins(site: Path, tmp_path: Path) -> None:
    def base(step: int, job: int, **environment: str) -> Path:
        return do(site, step, SLURM_JOB_ID=str(job), **environment).work.path.parent

    x, y = tmp_path / "x", tmp_path / "y"
    assert base(1, 8, SCRATCH_BASE=str(x)) == x
    assert base(5, 9, FOLDS="0") == x
    assert base(1, 11, SCRATCH_BASE=str(y)) == y
    assert base(5, 9, FOLDS="0") == x  # requeued
    assert base(6, 10) == x  # pending all the while
    assert base(5, 12, FOLDS="1") == y
    assert do(site, 6).work.path.parent == y


def test_without_a_recipe_the_error_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(
        TiebreakError, match=r"no recipe at .*RECIPE .*profile.sh.*tiebreak slurm init FOLDER --preset sc4000"
    ):
        prepare(2, {}, tmp_path / "recipe.yaml", tmp_path)


def test_the_scratch_recipe_works_without_the_sites(site: Path) -> None:
    do(site, 2)
    (site / "recipe.yaml").unlink()
    assert names(do(site, 3, TEACHER_FOLDS="1"), "teach") == ["llama-fold1", "qwen-fold1"]


def test_a_recipe_with_absolute_paths_has_equal_keys_anywhere(site: Path, tmp_path: Path) -> None:
    own = Workspace(site / "recipe.yaml")
    moved = tmp_path / "elsewhere.yaml"
    moved.write_text(yaml.safe_dump(own.with_absolute_paths()))
    there = Workspace(moved)
    assert there.run_dir == own.run_dir
    assert json.dumps([there.key(t) for t in there.tasks]) == json.dumps([own.key(t) for t in own.tasks])


def test_a_scratch_folder_that_cannot_be_made_is_named(site: Path) -> None:
    with pytest.raises(TiebreakError, match="cannot write to the folder /proc/x: "):
        do(site, 1, SCRATCH_BASE="/proc/x")


@pytest.mark.parametrize("place", ["~nosuchuser/x", "a\0b"])
def test_a_scratch_folder_that_is_no_path_is_named(tmp_path: Path, place: str) -> None:
    with pytest.raises(TiebreakError, match=r"SCRATCH_BASE: .* is no path; after ~ comes"):
        scratch_base({"SCRATCH_BASE": place}, tmp_path)
