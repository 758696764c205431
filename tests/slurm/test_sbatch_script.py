"""Batch scripts as pure functions, and a run on a cluster with fake Slurm commands."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Sequence
from concurrent import futures
from pathlib import Path

import fake_steps
import pytest

from tiebreak.commands.status import task_statuses, total
from tiebreak.engine import artifacts
from tiebreak.engine.task_runner import run_task
from tiebreak.engine.workspace import Workspace
from tiebreak.errors import TiebreakError
from tiebreak.pipeline.graph import Task
from tiebreak.recipe.execution import Slurm, StepJobs
from tiebreak.recipe.loader import parse
from tiebreak.recipe.schema import Recipe
from tiebreak.slurm import client, left, sbatch_script
from tiebreak.slurm.jobs import SlurmJobs
from tiebreak.slurm.sbatch_script import Site, Submission, minutes_of, script, submissions

SITE = Site(
    name="judge",
    run_dir=Path("/scratch/run"),
    recipe=Path("/scratch/run/slurm/recipe-1.yaml"),
    profile=None,
    variables={},
    settings=Slurm(),
    gpu_steps=frozenset({"teach", "quantize"}),
    tiebreak="/venv/bin/tiebreak",
)
ON_GPUS = {"post_pretrain", "teach", "score", "distill", "quantize", "predict"}
TEACH = Submission("teach", ("teach/llama-fold0", "teach/llama-fold1"))


def site(**changes: object) -> Site:
    return Site(**(vars(SITE) | changes))


def directives(text: str) -> dict[str, str]:
    lines = [line.removeprefix("#SBATCH --") for line in text.splitlines() if line.startswith("#SBATCH")]
    return {option: value for option, _, value in (line.partition("=") for line in lines)}


def test_a_script_as_a_whole() -> None:
    assert script(TEACH, SITE, ["12", "13"]) == (
        "#!/bin/bash\n"
        "#SBATCH --requeue\n"
        "#SBATCH --job-name=judge.teach\n"
        '#SBATCH --output="/scratch/run/logs/slurm-%x-%A_%a.log"\n'
        "#SBATCH --open-mode=append\n"
        "#SBATCH --array=0-1\n"
        "#SBATCH --time=1440\n"
        "#SBATCH --signal=B:USR1@300\n"
        "#SBATCH --gres=gpu:1\n"
        "#SBATCH --dependency=afterok:12:13\n"
        "#SBATCH --kill-on-invalid-dep=yes\n"
        "trap '' USR1  # until tiebreak listens: Slurm's warning before the end\n"
        "tasks=(teach/llama-fold0 teach/llama-fold1)\n"
        "exec /venv/bin/tiebreak task --requeue /scratch/run/slurm/recipe-1.yaml"
        ' "${tasks[SLURM_ARRAY_TASK_ID]}"\n'
    )


def test_a_log_s_folder_is_taken_literally() -> None:
    text = script(TEACH, site(run_dir=Path("/my runs/100%a")))
    assert directives(text)["output"] == '"/my runs/100%%a/logs/slurm-%x-%A_%a.log"'


@pytest.mark.parametrize("name", ['a "b"', "a\\b", "a\nb"])
def test_a_folder_that_cannot_be_written_in_an_option_is_refused(
    work: Workspace, cluster_folder: Path, name: str
) -> None:
    odd = Workspace(work.path, (f"run_dir={json.dumps(name)}",), fake_steps.tasks)
    with pytest.raises(TiebreakError, match=r"the run folder .* move it, or set run_dir"):
        SlurmJobs(odd).submit(odd.tasks)
    assert not odd.run_dir.exists()


def test_a_script_is_bash_and_picks_its_task(tmp_path: Path) -> None:
    tool = tmp_path / "a tool"
    tool.write_text('#!/bin/sh\necho "$@"\n')
    tool.chmod(0o755)
    recipe = Path("/some where/it's.yaml")
    text = script(TEACH, site(tiebreak=f"'{tool}'", recipe=recipe))
    done = subprocess.run(
        ["bash"], input=text, env={"SLURM_ARRAY_TASK_ID": "1"}, capture_output=True, text=True, check=True
    )
    assert done.stdout == f"task --requeue {recipe} teach/llama-fold1\n"


def test_the_profile_holds_for_every_job_and_the_gpu_for_those_that_need_one() -> None:
    variables = {"SBATCH_PARTITION": "gpu", "SBATCH_QOS": "high", "SBATCH_GRES": "gpu:v100:1"}
    with_profile = site(variables=variables, profile=Path("/site/profile.sh"))
    text = script(TEACH, with_profile)
    assert {"partition": "gpu", "qos": "high", "gres": "gpu:v100:1"}.items() <= directives(text).items()
    assert "\nsource /site/profile.sh\n" in text
    assert "gres" not in directives(script(Submission("split", ("split/votes",)), with_profile))
    assert "gres" not in directives(script(TEACH, site(gpu_steps=frozenset())))


def test_processes_of_a_task_are_tasks_of_its_job() -> None:
    shared = site(processes=4, settings=Slurm(nodes=2))
    wanted = {"nodes": "2", "ntasks-per-node": "2", "gres": "gpu:2"}
    assert wanted.items() <= directives(script(TEACH, shared)).items()
    alone = directives(script(Submission("quantize", ("quantize/student",)), shared))
    assert "nodes" not in alone
    assert alone["gres"] == "gpu:1"


@pytest.mark.parametrize(
    ("wanted", "gres"),
    [
        ("gpu", "gpu:2"),
        ("gpu:4", "gpu:2"),
        ("gpu:v100", "gpu:v100:2"),
        ("gpu:v100:1", "gpu:v100:2"),
        ("gpu:1g.10gb:1,nvme:1", "gpu:1g.10gb:2,nvme:1"),
        ("shard:8", "shard:8"),
    ],
)
def test_the_gpu_type_is_the_profiles_and_the_number_the_recipes(wanted: str, gres: str) -> None:
    shared = site(processes=4, settings=Slurm(nodes=2), variables={"SBATCH_GRES": wanted})
    assert directives(script(TEACH, shared))["gres"] == gres


def test_any_variable_names_the_gpu_and_only_gpu_jobs_get_gpu_variables() -> None:
    variables = {"SBATCH_GPUS_PER_NODE": "v100:4", "SBATCH_MEM_PER_GPU": "8G", "SBATCH_EXCLUSIVE": "user"}
    with_gpu = site(variables=variables)
    assert directives(script(TEACH, with_gpu))["gres"] == "gpu:v100:1"
    rest = {name: value for name, value in variables.items() if name != "SBATCH_GPUS_PER_NODE"}
    assert sbatch_script.passthrough_variables("teach", with_gpu) == rest
    assert sbatch_script.passthrough_variables("split", with_gpu) == {"SBATCH_EXCLUSIVE": "user"}


def test_at_once_limits_the_array() -> None:
    assert directives(script(TEACH, site(settings=Slurm(at_once=1))))["array"] == "0-1%1"


@pytest.mark.parametrize(
    ("settings", "variables", "minutes"),
    [
        ({}, {}, 1440),
        ({"minutes": 90}, {}, 90),
        ({"minutes": 90}, {"SBATCH_TIMELIMIT": "2:30:00"}, 150),
        ({"steps": {"teach": {"minutes": 7}}}, {"SBATCH_TIMELIMIT": "60"}, 7),
        ({}, {"SBATCH_TIMELIMIT": "1-12"}, 2160),
        ({}, {"SBATCH_TIMELIMIT": "1-00:30:00"}, 1470),
        ({}, {"SBATCH_TIMELIMIT": "5:30"}, 5),
        ({}, {"SBATCH_TIMELIMIT": "0:30"}, 1),
        ({}, {"SBATCH_TIMELIMIT": "0"}, 0),
        ({}, {"SBATCH_TIMELIMIT": "0-00:00"}, 0),
    ],
)
def test_time_of_a_job(settings: dict[str, object], variables: dict[str, str], minutes: int) -> None:
    assert minutes_of("teach", site(settings=Slurm(**settings), variables=variables)) == minutes


def test_no_limit_of_time_is_slurm_s_0() -> None:
    text = script(TEACH, site(variables={"SBATCH_TIMELIMIT": "0"}))
    assert {"time": "0", "signal": "B:USR1@300"}.items() <= directives(text).items()


def test_an_invalid_time_is_named() -> None:
    with pytest.raises(TiebreakError, match="SBATCH_TIMELIMIT='soon' is no time"):
        minutes_of("teach", site(variables={"SBATCH_TIMELIMIT": "soon"}))


@pytest.mark.parametrize(("minutes", "warning"), [(1, 15), (3, 45), (20, 300), (1440, 300)])
def test_the_warning_takes_a_quarter_of_a_short_time(minutes: int, warning: int) -> None:
    text = script(TEACH, site(settings=Slurm(minutes=minutes)))
    assert directives(text)["signal"] == f"B:USR1@{warning}"


@pytest.fixture
def work(tmp_path: Path) -> Workspace:
    return Workspace(fake_steps.write(tmp_path), (), fake_steps.tasks)


def make(work: Workspace, *tasks: str) -> None:
    for task in tasks:
        run_task(work, work.find(task), lambda line: None, lambda: False)


def test_one_submission_a_step_with_edges_between(work: Workspace) -> None:
    folds = tuple(f"train/fold{fold}" for fold in range(3))
    assert submissions(work, work.tasks) == [
        Submission("ingest", ("ingest/votes",)),
        Submission("train", folds, after=("ingest/votes",)),
        Submission("join", ("join/all",), after=folds),
    ]


def test_only_what_is_missing_is_submitted(work: Workspace) -> None:
    make(work, "ingest/votes", "train/fold1")
    assert submissions(work, work.tasks) == [
        Submission("train", ("train/fold0", "train/fold2")),
        Submission("join", ("join/all",), after=("train/fold0", "train/fold2")),
    ]


def test_active_jobs_are_dependencies(work: Workspace) -> None:
    make(work, "ingest/votes")
    assert submissions(work, work.tasks, {"train/fold0": "17_0", "train/fold1": "17_1"}) == [
        Submission("train", ("train/fold2",)),
        Submission("join", ("join/all",), after=("train/fold2",), after_jobs=("17_0", "17_1")),
    ]


def test_dependants_of_a_remade_task_are_submitted(work: Workspace) -> None:
    make(work, *(task.id for task in work.tasks))
    assert submissions(work, work.tasks) == []
    (work.folder(work.find("train/fold2")) / "weights.bin").unlink()
    assert [planned.tasks for planned in submissions(work, work.tasks)] == [("train/fold2",), ("join/all",)]


STAND_IN = r"""#!/bin/bash
# fake Slurm commands: record their arguments in $FAKE_SLURM
cd "$FAKE_SLURM"
echo "$(basename "$0") $*" >> calls
[ -e down ] && { echo "Unable to contact slurm controller" >&2; exit 1; }
case $(basename "$0") in
  sbatch) n=$(($(cat count 2>/dev/null || echo 100) + 1)); echo $n > count; cat > "$n.sh"; env > "$n.env"
          echo "$n;cluster" ;;
  squeue) cat queue 2>/dev/null; [ -e "next queue" ] && mv "next queue" queue ;;
  sacct) cat account 2>/dev/null ;;
  scontrol) if [ "$1" = show ]; then cat config 2>/dev/null
            else kill -TERM $$; fi ;;  # as Slurm does to a job that asks to be requeued
esac
exit 0
"""


@pytest.fixture
def cluster_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Fake Slurm commands on the PATH; they record their arguments in this folder."""
    folder, commands = tmp_path / "cluster", tmp_path / "bin"
    folder.mkdir()
    commands.mkdir()
    for name in ("sbatch", "squeue", "sacct", "scancel", "scontrol"):
        (commands / name).write_text(STAND_IN)
        (commands / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{commands}:{os.environ['PATH']}")
    monkeypatch.setenv("FAKE_SLURM", str(folder))
    return folder


def in_queue(folder: Path, *lines: str) -> None:
    (folder / "queue").write_text("".join(f"{line}|2026-01-01T00:00:00|/x\n" for line in lines))


def test_submitting_hands_over_the_scripts_in_order(work: Workspace, cluster_folder: Path) -> None:
    made = SlurmJobs(work).submit(work.tasks, ["--partition=spot"])
    assert [(entry["job"], entry["step"]) for entry in made] == [
        ("101", "ingest"),
        ("102", "train"),
        ("103", "join"),
    ]
    assert directives((cluster_folder / "103.sh").read_text())["dependency"] == "afterok:102"
    assert "sbatch --parsable --partition=spot" in (cluster_folder / "calls").read_text()
    frozen = Workspace(SlurmJobs(work).site().recipe, (), fake_steps.tasks)
    assert [frozen.key(task) for task in frozen.tasks] == [work.key(task) for task in work.tasks]


def test_a_second_submission_skips_active_tasks(work: Workspace, cluster_folder: Path) -> None:
    SlurmJobs(work).submit(work.tasks)
    train = [f"102_{n}|fake.train|PENDING|Dependency" for n in range(3)]
    in_queue(cluster_folder, "101_0|fake.ingest|RUNNING|None", *train)
    made = SlurmJobs(work).submit(work.tasks)
    assert [entry["step"] for entry in made] == ["join"]
    assert directives((cluster_folder / "104.sh").read_text())["dependency"] == "afterok:102_0:102_1:102_2"


def test_after_a_failure_unsatisfiable_jobs_are_resubmitted(work: Workspace, cluster_folder: Path) -> None:
    """fold1 failed while the rest of its array runs: Slurm kills the job of join only after that."""
    make(work, "ingest/votes")
    SlurmJobs(work).submit(work.tasks)
    rest = [f"101_{n}|fake.train|RUNNING|None" for n in (0, 2)]
    in_queue(cluster_folder, *rest, "102_0|fake.join|PENDING|Dependency")
    made = SlurmJobs(work).submit(work.tasks)
    assert [list(entry["tasks"]) for entry in made] == [["train/fold1"], ["join/all"]]
    assert "scancel 102_0\n" in (cluster_folder / "calls").read_text()
    assert directives((cluster_folder / "104.sh").read_text())["dependency"] == "afterok:101_0:101_2:103"


def test_a_fold_waits_for_its_own_inputs_alone(tmp_path: Path, cluster_folder: Path) -> None:
    """What an input has waited for already is not waited for again."""
    work = Workspace(fake_steps.write(tmp_path), (), fake_steps.tasks_with_scores)
    SlurmJobs(work).submit(work.tasks)
    waits = {
        path.stem: directives(path.read_text()).get("dependency") for path in cluster_folder.glob("*.sh")
    }
    assert waits == {
        "101": None,
        "102": "afterok:101",
        "103": "aftercorr:102",
        "104": "afterok:103",
    }
    assert directives((cluster_folder / "103.sh").read_text())["array"] == "0-2"
    assert SlurmJobs(work).record[2]["after_each"] == "102"


def test_shards_of_folds_are_an_array_a_shard(tmp_path: Path, cluster_folder: Path) -> None:
    """A fold that has another number of shards than the others keeps its edges, and so do they."""

    def shards(*counts: int) -> Callable[[Recipe], tuple[Task, ...]]:
        def expand(recipe: Recipe) -> tuple[Task, ...]:
            before = fake_steps.tasks_with_scores(recipe)[:-1]
            folds = [task for task in before if task.step.name == "train"]
            others = [
                Task(before[-1].step, f"{task.name}-{n}", task.settings, {"text": (task,)})
                for task, count in zip(folds, counts, strict=True)
                for n in range(count)
            ]
            return (*(task for task in before if task.step.name != "score"), *others)

        return expand

    even = Workspace(fake_steps.write(tmp_path / "even"), (), shards(2, 2, 2))
    make(even, "ingest/votes")
    arrays = [tuple(planned.tasks) for planned in submissions(even, even.tasks)][1:]
    assert arrays == [tuple(f"score/fold{fold}-{n}" for fold in range(3)) for n in range(2)]
    odd = Workspace(fake_steps.write(tmp_path / "odd"), (), shards(2, 1, 2))
    make(odd, "ingest/votes")
    assert [len(planned.tasks) for planned in submissions(odd, odd.tasks)] == [3, 2, 1, 2]


def test_an_array_is_as_large_as_the_cluster_takes(work: Workspace, cluster_folder: Path) -> None:
    (cluster_folder / "config").write_text("MailProg  = /bin/mail\nMaxArraySize            = 2\n")
    made = SlurmJobs(work).submit(work.tasks)
    assert [len(entry["tasks"]) for entry in made] == [1, 2, 1, 1]
    assert directives((cluster_folder / "104.sh").read_text())["dependency"] == "afterok:102:103"


class Queue:
    """A cluster that takes a number of tasks, by `client.submit`; its jobs are numbered from 1."""

    def __init__(self, room: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self.room = room
        self.scripts: dict[str, str] = {}
        monkeypatch.setattr(client, "submit", self.submit)
        monkeypatch.setattr(client, "cancel", self.cancel)

    def submit(self, text: str, options: object = (), variables: object = None) -> str:
        tasks = re.search(r"--array=0-(\d+)", text)
        size = int(tasks[1]) + 1 if tasks else 1
        if size > self.room:
            raise client.LimitReached("AssocMaxSubmitJobLimit")
        self.room -= size
        self.scripts[str(len(self.scripts) + 1)] = text
        return str(len(self.scripts))

    def cancel(self, jobs: Sequence[str]) -> None:
        self.room += len(jobs)


@pytest.mark.parametrize(
    ("room", "sent", "left_out"),
    [
        (6, [1, 3, 1], []),
        (5, [1, 3, 1], []),
        (4, [1, 2], ["train/fold2", "join/all"]),
        (3, [1, 1], ["train/fold1", "train/fold2", "join/all"]),
        (2, [1], ["train/fold0", "train/fold1", "train/fold2", "join/all"]),
    ],
)
def test_what_a_limit_leaves_out_is_submitted_by_a_job_behind_the_others(
    work: Workspace,
    cluster_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    room: int,
    sent: list[int],
    left_out: list[str],
) -> None:
    queue = Queue(room, monkeypatch)
    made = SlurmJobs(work).submit(work.tasks)
    assert [len(entry["tasks"]) for entry in made] == sent
    assert SlurmJobs(work).record == made
    found = left.read(SlurmJobs(work).folder)
    assert (found.tasks if found else []) == left_out
    if found:
        text = queue.scripts[found.job]
        assert directives(text)["dependency"] == "afterany:" + ":".join(entry["job"] for entry in made)
        assert text.endswith(f"/tiebreak slurm rest {work.frozen_path}\n")


def test_a_job_goes_on_with_what_was_left_out_but_not_behind_a_failure(
    work: Workspace, cluster_folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    queue = Queue(4, monkeypatch)
    SlurmJobs(work).submit(work.tasks)
    make(work, "ingest/votes", "train/fold0")  # and fold1 fails
    queue.room = 10
    assert [list(entry["tasks"]) for entry in SlurmJobs(work).submit_left()] == [["train/fold2"]]
    assert "not submitted, since what they need has failed: join/all" in caplog.text
    assert SlurmJobs(work).submit_left() == []


def test_what_waits_a_task_for_a_task_is_submitted_one_by_one_at_a_limit(
    tmp_path: Path, cluster_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = Queue(6, monkeypatch)
    work = Workspace(fake_steps.write(tmp_path), (), fake_steps.tasks_with_scores)
    made = SlurmJobs(work).submit(work.tasks)
    assert [list(entry["tasks"]) for entry in made][2:] == [["score/fold0"]]
    assert directives(queue.scripts[made[2]["job"]])["dependency"] == "afterok:2_0"
    found = left.read(SlurmJobs(work).folder)
    assert found is not None
    assert found.tasks == ["score/fold1", "score/fold2", "join/all"]


def test_no_room_at_all_is_an_error(
    work: Workspace, cluster_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Queue(0, monkeypatch)
    with pytest.raises(client.LimitReached, match="AssocMaxSubmitJobLimit"):
        SlurmJobs(work).submit(work.tasks)


def test_retries_are_those_of_the_task_command(work: Workspace, cluster_folder: Path) -> None:
    SlurmJobs(work).submit(work.tasks, retries=2)
    assert (
        f"/tiebreak task --requeue --retry 2 {work.frozen_path} " in (cluster_folder / "102.sh").read_text()
    )


def test_a_step_has_settings_of_its_own(work: Workspace) -> None:
    own = StepJobs(
        partition="big",
        mem="200G",
        gres="gpu:a100:2",
        before=("module load cuda",),
        container="/x/my image.sif",
    )
    settings = Slurm(steps={"teach": own}, mail="me@example.org")
    elsewhere = site(variables={"SBATCH_PARTITION": "gpu", "SBATCH_QOS": "high"}, settings=settings)
    text = script(TEACH, elsewhere, is_last=True)
    found = directives(text)
    assert [found[key] for key in ("partition", "qos", "mem", "gres")] == [
        "big",
        "high",
        "200G",
        "gpu:a100:2",
    ]
    assert (found["mail-user"], found["mail-type"]) == ("me@example.org", "END,FAIL,INVALID_DEPEND")
    assert "\nmodule load cuda\ntasks=(" in text
    assert "exec apptainer exec --nv '/x/my image.sif' /venv/bin/tiebreak task" in text
    other = directives(script(Submission("quantize", ("quantize/student",)), elsewhere))
    assert (other["partition"], other["gres"], other.get("mail-user")) == ("gpu", "gpu:1", None)


def test_jobs_unsatisfiable_by_a_failed_array_task_are_resubmitted(
    tmp_path: Path, cluster_folder: Path
) -> None:
    """fold1 failed: what waits for it is sent out anew, and the other folds go on."""
    work = Workspace(fake_steps.write(tmp_path), (), fake_steps.tasks_with_scores)
    make(work, "ingest/votes")
    SlurmJobs(work).submit(work.tasks)
    pending = [*(f"102_{n}|fake.score" for n in range(3)), "103_0|fake.join"]
    in_queue(
        cluster_folder,
        *(f"101_{n}|fake.train|RUNNING|None" for n in (0, 2)),
        *(f"{job}|PENDING|Dependency" for job in pending),
    )
    made = SlurmJobs(work).submit(work.tasks)
    assert [list(entry["tasks"]) for entry in made] == [["train/fold1"], ["score/fold1"], ["join/all"]]
    assert "scancel 102_1 103_0\n" in (cluster_folder / "calls").read_text()
    assert directives((cluster_folder / "105.sh").read_text())["dependency"] == "afterok:104"
    waits = directives((cluster_folder / "106.sh").read_text())["dependency"]
    assert waits == "afterok:101_0:101_2:102_0:102_2:105"


def test_other_output_of_sbatch_is_ignored(work: Workspace, cluster_folder: Path) -> None:
    sbatch = cluster_folder.parent / "bin" / "sbatch"
    sbatch.write_text("#!/bin/bash\necho 'Welcome to the cluster'; echo '77;tank'")
    assert [entry["job"] for entry in SlurmJobs(work).submit(work.tasks)] == ["77"] * 3
    sbatch.write_text("#!/bin/bash\necho 'ask your site'")
    (work.run_dir / "slurm" / "jobs.json").unlink()
    with pytest.raises(TiebreakError, match="to name the job's id, and said 'ask your site'"):
        SlurmJobs(work).submit(work.tasks)
    assert not (work.run_dir / "slurm" / "jobs.json").exists()


def test_another_cluster_is_refused(work: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_CLUSTERS", "tank")
    with pytest.raises(TiebreakError, match="SLURM_CLUSTERS=tank: the jobs of another cluster"):
        SlurmJobs(work).site()


def test_a_job_does_not_wait_for_one_that_came_later(work: Workspace, cluster_folder: Path) -> None:
    make(work, "ingest/votes")
    SlurmJobs(work).submit(work.tasks)
    others = [f"101_{n}|fake.train|RUNNING|None" for n in (0, 2)]
    in_queue(cluster_folder, *others, "102_0|fake.join|PENDING|Dependency")
    SlurmJobs(work).submit([task for task in work.tasks if task.step.name == "train"])
    assert "scancel" not in (cluster_folder / "calls").read_text()  # join was not asked for
    again = "103_0|fake.train|RUNNING|None"
    in_queue(cluster_folder, *others, "102_0|fake.join|PENDING|Dependency", again)
    made = SlurmJobs(work).submit(work.tasks)
    assert [list(entry["tasks"]) for entry in made] == [["join/all"]]
    assert "scancel 102_0\n" in (cluster_folder / "calls").read_text()
    assert directives((cluster_folder / "104.sh").read_text())["dependency"] == "afterok:101_0:103_0:101_2"


@pytest.mark.parametrize(("then", "steps"), [((), ["train", "join"]), (("PENDING",), ["join"])])
def test_completing_jobs_are_waited_for(
    work: Workspace, cluster_folder: Path, then: tuple[str, ...], steps: list[str]
) -> None:
    """They end as cancelled, or are requeued under their number."""
    make(work, "ingest/votes")
    SlurmJobs(work).submit(work.tasks)
    names = [f"101_{n}|judge.train" for n in range(3)]
    in_queue(cluster_folder, *(f"{name}|{state}|None" for name in names for state in then))
    (cluster_folder / "queue").rename(cluster_folder / "next queue")
    in_queue(cluster_folder, *(f"{name}|COMPLETING|None" for name in names))
    made = SlurmJobs(work).submit(work.tasks)
    assert [entry["step"] for entry in made] == steps


def test_two_at_once_submit_it_once(work: Workspace, cluster_folder: Path) -> None:
    cluster = SlurmJobs(work)
    jobs = {str(job): task for job, task in enumerate(work.tasks, 17)}
    record = [
        {"job": job, "step": task.step.name, "tasks": {task.id: work.key(task)}} for job, task in jobs.items()
    ]
    with futures.ThreadPoolExecutor() as pool:
        with artifacts.lock(cluster.folder):  # held by the first, while it submits
            second = pool.submit(SlurmJobs(work).submit, work.tasks)
            assert not futures.wait([second], timeout=0.3).done
            in_queue(cluster_folder, *(f"{job}_0|a name|PENDING|None" for job in jobs))
            (cluster.folder / "jobs.json").write_text(json.dumps(record))
        assert second.result() == []
    assert SlurmJobs(work).record == record


def test_jobs_of_a_changed_recipe_are_not_active(work: Workspace, cluster_folder: Path) -> None:
    SlurmJobs(work).submit(work.tasks)
    in_queue(cluster_folder, "101_0|fake.ingest|RUNNING|None", "103_0|fake.join|PENDING|Dependency")
    changed = Workspace(work.path, ("seed=1",), fake_steps.tasks)
    assert SlurmJobs(changed).active() == {"ingest/votes": "101_0"}


def test_no_secret_reaches_a_job(
    work: Workspace, cluster_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "WANDB_API_KEY", "DB_PASSWORD"):
        monkeypatch.setenv(name, "very-secret")
    monkeypatch.setenv("SBATCH_GRES", "gpu:9")
    SlurmJobs(work).submit(work.tasks)
    for path in (*cluster_folder.iterdir(), *work.run_dir.rglob("*")):
        assert path.is_dir() or "very-secret" not in path.read_text(), path
    assert "SBATCH_GRES" not in (cluster_folder / "101.env").read_text()


def test_the_profile_is_read(work: Workspace, cluster_folder: Path) -> None:
    (work.root / "profile.sh").write_text('export SBATCH_PARTITION=gpu\n[ -z "$SLURM_JOB_ID" ] || exit 3\n')
    with_profile = Workspace(work.path, ("slurm.profile=profile.sh",), fake_steps.tasks)
    SlurmJobs(with_profile).submit(with_profile.tasks)
    text = (cluster_folder / "101.sh").read_text()
    assert directives(text)["partition"] == "gpu"
    assert f"source {work.root / 'profile.sh'}" in text


def test_variables_without_a_directive_are_passed_to_sbatch(
    work: Workspace, cluster_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A variable overrides the script for sbatch, so those that the script sets are withheld."""
    passed = ("SBATCH_MEM_PER_CPU=4G", "SBATCH_EXCLUSIVE=user", "SBATCH_WCKEY=mine")
    ours = ("ARRAY_INX=0-9", "TIMELIMIT=60", "SIGNAL=B:TERM@9", "OUTPUT=x", "ERROR=x", "WAIT=1", "QOS=high")
    lines = (*passed, *(f"SBATCH_{text}" for text in ours))
    (work.root / "profile.sh").write_text("".join(f"export {line}\n" for line in lines))
    monkeypatch.setenv("SBATCH_WCKEY", "the shell's")
    monkeypatch.setenv("SBATCH_SOME_TOKEN", "very-secret")
    with_profile = Workspace(work.path, ("slurm.profile=profile.sh",), fake_steps.tasks)
    SlurmJobs(with_profile).submit(with_profile.tasks)
    told = (cluster_folder / "101.env").read_text().splitlines()
    assert sorted(line for line in told if line.startswith("SBATCH_")) == sorted(passed)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no profile at"),
        ("echo broken >&2; false", "profile.sh fails: broken"),
        ("SBATCH_CLUSTERS=far", "SBATCH_CLUSTERS=far: the jobs of another cluster"),
    ],
)
def test_a_wrong_profile_is_named(
    work: Workspace, cluster_folder: Path, content: str | None, message: str
) -> None:
    if content:
        (work.root / "profile.sh").write_text(content)
    with_profile = Workspace(work.path, ("slurm.profile=profile.sh",), fake_steps.tasks)
    with pytest.raises(TiebreakError, match=message):
        SlurmJobs(with_profile).submit(with_profile.tasks)
    assert not list(cluster_folder.glob("*.sh"))


def test_a_controller_that_is_down_is_one_clear_error(work: Workspace, cluster_folder: Path) -> None:
    (cluster_folder / "down").write_text("")
    with pytest.raises(TiebreakError, match="sbatch failed: Unable to contact slurm controller"):
        SlurmJobs(work).submit(work.tasks)
    (cluster_folder / "down").unlink()
    assert len(SlurmJobs(work).submit(work.tasks)) == 3


def test_status_without_a_controller_tells_what_is_local(
    work: Workspace, cluster_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    SlurmJobs(work).submit(work.tasks)
    make(work, "ingest/votes")
    (cluster_folder / "down").write_text("")
    states = {row.task: row.state for row in task_statuses(work)}
    assert (states["ingest/votes"], states["train/fold0"]) == ("done", "missing")
    assert "what jobs do is not known" in caplog.text
    assert "Unable to contact slurm controller" in caplog.text


def test_without_slurm_is_a_clear_error(
    work: Workspace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "bash").symlink_to(str(shutil.which("bash")))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    with pytest.raises(TiebreakError, match="there is no sbatch here"):
        SlurmJobs(work).submit(work.tasks)


def test_a_chosen_step_needs_the_others(work: Workspace, cluster_folder: Path) -> None:
    with pytest.raises(TiebreakError, match="join/all needs train/fold0"):
        SlurmJobs(work).submit([work.find("join/all")])


def test_the_plan_is_what_is_submitted(work: Workspace, cluster_folder: Path) -> None:
    planned = [text for _, text in SlurmJobs(work).planned_scripts(work.tasks)]
    made = SlurmJobs(work).submit(work.tasks)
    submitted = [(cluster_folder / f"{entry['job']}.sh").read_text() for entry in made]
    for entry in made:
        planned = [text.replace(f"<{entry['step']}>", entry["job"]) for text in planned]
    assert planned == submitted
    assert "squeue" not in (cluster_folder / "calls").read_text()  # nothing to ask before the first time


def test_status_reads_slurm_and_artifacts(work: Workspace, cluster_folder: Path) -> None:
    SlurmJobs(work).submit(work.tasks)
    make(work, "ingest/votes")
    in_queue(cluster_folder, "102_0|fake.train|RUNNING|None", "103_0|fake.join|PENDING|Dependency")
    (cluster_folder / "account").write_text("102_1|OUT_OF_MEMORY\n102_2|CANCELLED by 0\n")
    log = work.run_dir / "logs" / "slurm-fake.train-102_1.log"
    log.write_text("one\ntwo\nthree\nfour\n")
    rows = {row.task: row for row in task_statuses(work)}
    assert rows["ingest/votes"].state == "done"
    assert (rows["train/fold0"].state, rows["train/fold0"].detail) == ("running", "job 102_0: starting")
    assert rows["train/fold1"].state == "failed"
    assert rows["train/fold1"].detail == (
        f"job 102_1, OUT_OF_MEMORY: the end of {log}:\ntwo\nthree\nfour\n"
        f"again: tiebreak run {work.path} --on slurm"
    )
    assert rows["train/fold2"].state == "cancelled"
    assert (rows["join/all"].state, rows["join/all"].detail) == ("pending", "job 103_0: Dependency")


def test_status_tells_node_time_and_requeues_of_a_job_and_the_signal_that_ended_it(
    work: Workspace, cluster_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    SlurmJobs(work).submit(work.tasks)
    make(work, "ingest/votes")
    line = "102_0|fake.train|RUNNING|None|2026-01-01T00:00:00|/x\tnode7\t1:02:03\t(null)\n"
    waits = "102_2|fake.train|PENDING|Resources|2026-01-01T00:00:00|/x\t\t0:00\t(null)\n"
    (cluster_folder / "queue").write_text(line + waits)
    (cluster_folder / "account").write_text("102_1|FAILED|0:9\n")
    monkeypatch.setattr(client, "restarts", lambda: {"102_0": 2, "102_2": 1})
    rows = {row.task: row.detail for row in task_statuses(work)}
    assert rows["train/fold0"] == "job 102_0 on node7 for 1:02:03, requeued 2 times: starting"
    assert rows["train/fold2"] == "job 102_2, requeued 1 times: Resources"
    assert rows["train/fold1"].startswith("job 102_1, FAILED by signal 9 (out of memory, or killed): ")


def test_the_total_is_of_all_turns_by_slurms_accounts_or_else_of_the_manifests(
    work: Workspace, cluster_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(work, "ingest/votes")
    assert total(work).endswith(" of jobs and tasks, 0.00 GPU-hours, in finished tasks")
    SlurmJobs(work).submit(work.tasks)
    (cluster_folder / "account").write_text("3600|billing=2,cpu=1,gres/gpu=2,node=1\n1800|cpu=1\n|cpu=1\n")
    assert total(work) == "1 h 30 min of jobs and tasks, 2.00 GPU-hours, by Slurm's accounts"


def test_the_command_to_try_again_is_for_the_same_run(work: Workspace, cluster_folder: Path) -> None:
    changed = Workspace(work.path, ("seed=1", "run_dir=my run"), fake_steps.tasks)
    SlurmJobs(changed).submit(changed.tasks)
    assert {row.detail.partition("again: ")[2] for row in task_statuses(changed)} == {
        f"tiebreak run {work.path} --set seed=1 --set 'run_dir=my run' --on slurm"
    }


def test_cancel_ends_queued_jobs(work: Workspace, cluster_folder: Path) -> None:
    SlurmJobs(work).submit(work.tasks)
    in_queue(cluster_folder, *(f"{job}|a name|RUNNING|None" for job in ("102_0", "102_1", "999", "17+1")))
    assert SlurmJobs(work).cancel() == ["102"]
    assert "scancel 102\n" in (cluster_folder / "calls").read_text()


def test_times_are_requested_in_the_format_that_is_parsed(
    cluster_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_TIME_FORMAT", "relative")
    client.submit("#!/bin/bash\n")
    assert "SLURM_TIME_FORMAT=standard\n" in (cluster_folder / "101.env").read_text()


def test_requeue_has_a_limit(cluster_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "9")
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "7")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
    for _ in range(2):
        client.requeue_after_timeout(tmp_path, limit=2)
    assert (cluster_folder / "calls").read_text() == "scontrol requeue 7_3\n" * 2
    with pytest.raises(TiebreakError, match="job 7_3 ran out of time 3 times"):
        client.requeue_after_timeout(tmp_path, limit=2)


@pytest.mark.parametrize(
    ("answer", "preempted"),
    [
        ("RUNNING             2026-11-23T08:11:52 ", True),
        ("RUNNING             N/A                 ", False),
        ("COMPLETING          2026-11-23T08:11:52 ", False),
        ("", False),
    ],
)
def test_preempted_is_not_cancelled(cluster_folder: Path, answer: str, preempted: bool) -> None:
    (cluster_folder / "queue").write_text(f"{answer}\n")
    assert client.is_preempted("7_3") is preempted
    (cluster_folder / "down").write_text("")
    assert not client.is_preempted("7_3")


@pytest.mark.parametrize(
    ("gres", "gpus"),
    [
        ("(null)", 0),
        ("gpu:2", 2),
        ("gpu:v100:4(S:0-1)", 4),
        ("gpu:a:1,gpu:b:2", 3),
        ("gpu", 1),
        ("craynetwork:4", 0),
    ],
)
def test_gpus_of_a_partition(monkeypatch: pytest.MonkeyPatch, gres: str, gpus: int) -> None:
    monkeypatch.setattr(
        client, "_run_command", lambda _: f"main|main*|up|infinite|{gres}\nmain|main*|up|infinite|(null)\n"
    )
    assert client.partitions() == {"main": client.Partition(None, gpus, is_default=True, is_up=True)}


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("", "is damaged"),
        ("{}", "is damaged"),
        ("null", "is damaged"),
        ("[3]", "is damaged"),
        ("\xff", "is damaged"),
        ('[{"job": "seven", "step": "a", "tasks": {}}]', "is damaged"),
        ('[{"job": "7", "step": "a", "tasks": ["b"]}]', "is damaged"),
        (
            '[{"job": "7", "step": "a", "tasks": {}, "after": ["6_1"]}]',
            "jobs wait for 6, which it does not list",
        ),
        (None, "is damaged"),
    ],
)
def test_a_damaged_jobs_json_says_what_to_do(work: Workspace, content: str | None, why: str) -> None:
    file = work.run_dir / "slurm" / "jobs.json"
    if content is None:
        file.mkdir(parents=True)
    else:
        file.parent.mkdir(parents=True)
        file.write_text(content, encoding="latin-1")
    with pytest.raises(TiebreakError, match=rf"{why}.*See `squeue --me`"):
        SlurmJobs(work)


def test_jobs_json_survives_a_submission_cut_in_the_middle(
    work: Workspace, cluster_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit = client.submit

    def fails_at_the_third(text: str, *_: object) -> str:
        if "fake.join" in text:
            raise TiebreakError("sbatch failed")
        return submit(text)

    monkeypatch.setattr(client, "submit", fails_at_the_third)
    with pytest.raises(TiebreakError):
        SlurmJobs(work).submit(work.tasks)
    record = json.loads((work.run_dir / "slurm" / "jobs.json").read_text())
    assert [entry["step"] for entry in record] == ["ingest", "train"]
    monkeypatch.setattr(client, "submit", submit)
    queued = [f"102_{n}|fake.train|PENDING|Dependency" for n in range(3)]
    in_queue(cluster_folder, "101_0|fake.ingest|RUNNING|None", *queued)
    assert [entry["step"] for entry in SlurmJobs(work).submit(work.tasks)] == ["join"]


@pytest.mark.parametrize(
    ("changes", "more", "fewer"),
    [
        ({}, {"average"}, set()),
        ({"split": {"calibration_share": 0}}, set(), set()),
        ({"compute": {"device": "cpu"}}, set(), ON_GPUS),
    ],
)
def test_steps_that_run_a_model_ask_for_a_gpu(
    changes: dict[str, object], more: set[str], fewer: set[str]
) -> None:
    tree = {
        "name": "n",
        "data": {"votes": ["v.csv"]},
        "models": {"teachers": {"t": {"base": "b"}}, "student": {"base": "b"}},
    }
    assert sbatch_script.gpu_steps(parse(tree | changes, "here")) == (ON_GPUS | more) - fewer
