"""On a real Slurm: the graph, failures, cancelling, time that runs out, a controller that restarts."""

import getpass
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import fake_steps
import nightly
import pytest

from tiebreak.commands import logs, status
from tiebreak.commands.status import Status, task_statuses
from tiebreak.engine import local_runner, progress
from tiebreak.engine.workspace import Workspace
from tiebreak.slurm import checks, client, jobs
from tiebreak.slurm.jobs import SlurmJobs

pytestmark = pytest.mark.thorough
JOB_KILLS = 40
TRAIN = [f"train/fold{fold}" for fold in range(3)]


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, real_slurm: object, hold: Path) -> Workspace:
    """A recipe over the fake steps, and a `tiebreak` for its jobs that knows them."""
    commands = tmp_path / "bin"
    commands.mkdir()
    tool = commands / "tiebreak"
    own = f"from pathlib import Path; from tiebreak.slurm import jobs; jobs.tiebreak_command = lambda: Path({str(tool)!r})"
    (commands / "fake_tiebreak.py").write_text(own + fake_steps.COMMAND)
    tool.write_text(f'#!/bin/sh\nexec {sys.executable} {commands / "fake_tiebreak.py"} "$@"\n')
    tool.chmod(0o755)
    monkeypatch.setattr(jobs, "tiebreak_command", lambda: tool)
    return Workspace(fake_steps.write(tmp_path / "a run, 100%a"), (), fake_steps.tasks)


@pytest.fixture
def undisturbed(tmp_path: Path) -> dict[str, object]:
    """What a run on this machine makes."""
    here = Workspace(fake_steps.write(tmp_path / "here"), (), fake_steps.tasks)
    local_runner.run(here, here.tasks)
    return fake_steps.payload(here.run_dir)


def rows(work: Workspace) -> dict[str, Status]:
    return {row.task: row for row in task_statuses(work)}


def until(
    work: Workspace, reached: Callable[[dict[str, Status]], bool], seconds: float = 240
) -> dict[str, Status]:
    deadline = time.monotonic() + seconds
    lively = time.monotonic()
    while not reached(seen := rows(work)):
        lively = lively if ended(seen) else time.monotonic()
        assert time.monotonic() < min(deadline, lively + 20), seen
        time.sleep(0.5)
    return seen


def all_done(seen: dict[str, Status]) -> bool:
    return all(row.state == "done" for row in seen.values())


def ended(seen: dict[str, Status]) -> bool:
    return all(row.state not in ("running", "pending") for row in seen.values())


def trains(seen: dict[str, Status]) -> bool:
    return all(seen[task].state == "running" and "training" in seen[task].detail for task in TRAIN)


def test_the_graph(work: Workspace, undisturbed: dict[str, object]) -> None:
    made = SlurmJobs(work).submit(work.tasks)
    assert [(entry["step"], len(entry["tasks"])) for entry in made] == [
        ("ingest", 1),
        ("train", 3),
        ("join", 1),
    ]
    until(work, all_done)
    assert fake_steps.payload(work.run_dir) == undisturbed
    assert SlurmJobs(work).submit(work.tasks) == []


def test_a_failed_task_and_what_needs_it(
    work: Workspace, undisturbed: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_FAIL", "train/fold1")
    SlurmJobs(work).submit(work.tasks)
    seen = until(work, ended)
    assert seen["train/fold1"].state == "failed"
    assert "FAILED: this fold does not train" in seen["train/fold1"].detail
    assert seen["train/fold1"].detail.endswith(f"again: tiebreak run {work.arguments} --on slurm")
    assert seen["join/all"].state == "cancelled"
    assert seen["train/fold0"].state == seen["train/fold2"].state == "done"
    monkeypatch.delenv("FAKE_FAIL")
    made = SlurmJobs(work).submit(work.tasks)
    assert [list(entry["tasks"]) for entry in made] == [["train/fold1"], ["join/all"]]
    until(work, all_done)
    assert fake_steps.payload(work.run_dir) == undisturbed


def test_a_failed_task_holds_back_its_own_fold_alone(
    work: Workspace, tmp_path: Path, hold: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three tasks of an array, each behind the one in its place of another array, one of which fails and one is requeued."""
    here = Workspace(fake_steps.write(tmp_path / "alone"), (), fake_steps.tasks_with_scores)
    local_runner.run(here, here.tasks)
    work = Workspace(work.path, (), fake_steps.tasks_with_scores)
    monkeypatch.setenv("FAKE_SCORES", "1")
    monkeypatch.setenv("FAKE_FAIL", "train/fold1")
    hold.write_text("1")
    made = SlurmJobs(work).submit(work.tasks)
    assert [(entry["step"], len(entry["tasks"])) for entry in made][2] == ("score", 3)
    until(
        work,
        lambda seen: "training" in seen["train/fold0"].detail and "training" in seen["train/fold2"].detail,
    )
    subprocess.run(["scancel", "--signal=USR1", "--batch", f"{made[1]['job']}_0"], check=True)
    until(work, lambda seen: "requeued 1 times" in seen["train/fold0"].detail)
    hold.write_text("")
    seen = until(work, ended)
    states = {task: row.state for task, row in seen.items() if task.startswith(("score", "join"))}
    assert states == {
        "score/fold0": "done",
        "score/fold1": "cancelled",
        "score/fold2": "done",
        "join/all": "cancelled",
    }
    monkeypatch.delenv("FAKE_FAIL")
    made = SlurmJobs(work).submit(work.tasks)
    assert [list(entry["tasks"]) for entry in made] == [["train/fold1"], ["score/fold1"], ["join/all"]]
    until(work, all_done)
    assert fake_steps.payload(work.run_dir) == fake_steps.payload(here.run_dir)


def test_submitted_again_while_the_rest_of_an_array_goes_on(
    work: Workspace, undisturbed: dict[str, object], hold: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two submissions are enough: the second one's join does not wait for the task that failed."""
    monkeypatch.setenv("FAKE_FAIL", "train/fold1")
    hold.write_text("1")
    SlurmJobs(work).submit(work.tasks)
    until(
        work,
        lambda seen: (
            seen["train/fold1"].state == "failed"
            and all("training" in seen[task].detail for task in ("train/fold0", "train/fold2"))
        ),
    )
    monkeypatch.delenv("FAKE_FAIL")
    made = SlurmJobs(work).submit(work.tasks)
    assert [list(entry["tasks"]) for entry in made] == [["train/fold1"], ["join/all"]]
    assert SlurmJobs(work).submit(work.tasks) == []
    hold.write_text("")
    until(work, all_done)
    assert fake_steps.payload(work.run_dir) == undisturbed


def test_cancelled_in_the_middle_and_again(
    work: Workspace, undisturbed: dict[str, object], hold: Path
) -> None:
    hold.write_text("1")
    SlurmJobs(work).submit(work.tasks)
    until(work, trains)
    SlurmJobs(work).cancel()
    seen = until(work, ended)
    assert {seen[task].state for task in TRAIN} == {"cancelled"}
    assert list(work.run_dir.glob("artifacts/train/*/checkpoint/state.json"))
    made = SlurmJobs(work).submit(work.tasks)
    assert [list(entry["tasks"]) for entry in made] == [TRAIN, ["join/all"]]
    until(work, all_done)
    assert fake_steps.payload(work.run_dir) == undisturbed


def test_warned_of_the_end_a_job_saves_and_goes_back_to_the_queue(
    work: Workspace, undisturbed: dict[str, object], hold: Path
) -> None:
    hold.write_text("1")
    SlurmJobs(work).submit(work.tasks)
    until(work, trains)
    (job,) = (entry["job"] for entry in SlurmJobs(work).record if entry["step"] == "train")
    subprocess.run(["scancel", "--signal=USR1", "--batch", job], check=True)
    until(work, all_done)
    logs = [path.read_text() for path in (work.run_dir / "logs").glob("slurm-fake.train-*.log")]
    assert sum("out of time: saved a checkpoint, back in the queue" in log for log in logs) >= 1
    assert list((work.run_dir / "logs").glob(f"requeued-{job}_*"))
    assert fake_steps.payload(work.run_dir) == undisturbed


def test_time_that_is_too_short(
    work: Workspace, undisturbed: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The warning comes a minute before the end of two, give or take the half minute Slurm looks at."""
    monkeypatch.setenv("FAKE_SLEEP", "6")  # twenty of them: two minutes
    short = Workspace(work.path, ("slurm.minutes=2",), fake_steps.tasks)
    SlurmJobs(short).submit(short.tasks)
    until(short, all_done, seconds=480)
    assert list((work.run_dir / "logs").glob("requeued-*"))
    assert fake_steps.payload(work.run_dir) == undisturbed


def test_the_controller_restarts_in_the_middle(
    work: Workspace, undisturbed: dict[str, object], hold: Path, real_slurm
) -> None:
    hold.write_text("1")
    SlurmJobs(work).submit(work.tasks)
    until(work, trains)
    real_slurm.do("restart", "slurmctld")
    assert client.queued()
    hold.write_text("")
    until(work, all_done)
    assert fake_steps.payload(work.run_dir) == undisturbed


def test_the_controller_is_down_while_status_is_asked(
    work: Workspace, undisturbed: dict[str, object], hold: Path, real_slurm, caplog: pytest.LogCaptureFixture
) -> None:
    if real_slurm.sandbox is None:
        pytest.skip("only a sandbox may be stopped")
    hold.write_text("1")
    SlurmJobs(work).submit(work.tasks)
    until(work, trains)
    real_slurm.do("stop", "slurmctld")
    try:
        seen = rows(work)
    finally:
        real_slurm.do("start", "slurmctld")
    assert "what jobs do is not known" in caplog.text
    assert (seen["ingest/votes"].state, seen["join/all"].state) == ("done", "missing")
    assert trains(seen)
    hold.write_text("")
    until(work, all_done)
    assert fake_steps.payload(work.run_dir) == undisturbed


@pytest.mark.parametrize(("most", "folds"), [(3, 3), (10, 12)])
def test_more_tasks_than_the_site_takes_at_once(
    work: Workspace, tmp_path: Path, real_slurm, most: int, folds: int
) -> None:
    """MaxSubmitJobs: a job behind the first ones submits the rest, and another one the rest of that."""
    if real_slurm.sandbox is None:
        pytest.skip("only a sandbox has these limits")
    sets = (f"split.count={folds}",)
    here = Workspace(fake_steps.write(tmp_path / "alone"), sets, fake_steps.tasks)
    local_runner.run(here, here.tasks)
    work = Workspace(work.path, sets, fake_steps.tasks)
    limit = ["sacctmgr", "-i", "modify", "user", getpass.getuser(), "set"]
    subprocess.run([*limit, f"MaxSubmitJobs={most}"], check=True, capture_output=True)
    try:
        time.sleep(2)  # slurmdbd tells the controller
        made = SlurmJobs(work).submit(work.tasks)
        assert sum(len(entry["tasks"]) for entry in made) == len(client.queued()) - 1 == most - 1
        seen = until(work, lambda seen: seen["ingest/votes"].state == "done")
        assert seen["join/all"].state == "pending"
        until(work, all_done)
    finally:
        subprocess.run([*limit, "MaxSubmitJobs=-1"], check=True, capture_output=True)
    assert fake_steps.payload(work.run_dir) == fake_steps.payload(here.run_dir)


def test_a_task_that_is_killed_for_memory_starts_again_in_its_job(
    work: Workspace, undisturbed: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGKILL, as the kernel sends it, until the tokens of a forward are half as many."""
    monkeypatch.setenv("FAKE_DIE", "train/fold1")
    monkeypatch.setenv("FAKE_DIE_ABOVE", "4096")
    SlurmJobs(work).submit(work.tasks, retries=1)
    until(work, all_done)
    logs = [path.read_text() for path in (work.run_dir / "logs").glob("slurm-fake.train-*.log")]
    assert sum("killed by SIGKILL (often: out of memory)" in log for log in logs) == 1
    assert fake_steps.payload(work.run_dir) == undisturbed


def test_limits_are_the_cluster_s_own(work: Workspace, monkeypatch: pytest.MonkeyPatch, real_slurm) -> None:
    if real_slurm.sandbox is None:
        pytest.skip("only a sandbox has these partitions")
    work = Workspace(work.path, ("compute.device=auto",), fake_steps.tasks)

    def found(**variables: str) -> dict[str, str]:
        with monkeypatch.context() as environment:
            for name, value in variables.items():
                environment.setenv(name, value)
            return {finding.about: finding.level for finding in checks.findings(work, work.tasks)}

    assert found() == found(SBATCH_PARTITION="main") == {"slurm partition main": "ok"}
    assert found(SBATCH_PARTITION="short") == {"slurm partition short": "error"}
    assert found(SBATCH_PARTITION="short", SBATCH_TIMELIMIT="5") == {"slurm partition short": "ok"}
    assert found(SBATCH_PARTITION="nowhere") == {"slurm partition nowhere": "error"}
    assert client.max_array_size() == 1001  # Slurm's default


def test_a_variable_of_the_site_holds_for_every_job(
    work: Workspace, monkeypatch: pytest.MonkeyPatch, hold: Path
) -> None:
    monkeypatch.setenv("SBATCH_MEM_PER_CPU", "100M")
    monkeypatch.setenv("SBATCH_TIMELIMIT", "0")
    hold.write_text("1")
    for entry in SlurmJobs(work).submit(work.tasks):
        command = ["squeue", "-h", "-j", entry["job"], "-O", "MinMemory,TimeLimit"]
        limits = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
        assert limits[:2] == ["100M", "UNLIMITED"]
    SlurmJobs(work).cancel()


@pytest.fixture
def without_accounts(work: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, real_slurm) -> None:
    """Clients that see a cluster without slurmdbd: sacct and sacctmgr fail as they do there."""
    if real_slurm.sandbox is None:
        pytest.skip("only a sandbox's configuration may be copied")
    conf = tmp_path / "slurm.conf"
    lines = Path(os.environ["SLURM_CONF"]).read_text().splitlines()
    kept = [line for line in lines if not line.startswith("AccountingStorage")]
    conf.write_text("\n".join([*kept, "AccountingStorageType=accounting_storage/none", ""]))
    monkeypatch.setenv("SLURM_CONF", str(conf))
    assert client.usage(["1"]) is None


@pytest.mark.usefixtures("without_accounts")
def test_a_cluster_without_accounts(
    work: Workspace, undisturbed: dict[str, object], monkeypatch: pytest.MonkeyPatch, hold: Path
) -> None:
    """A task that fails, one that is killed for memory and tried again, one warned of its end, one whose job is killed."""
    monkeypatch.setenv("FAKE_FAIL", "train/fold1")
    monkeypatch.setenv("FAKE_DIE", "train/fold2")
    monkeypatch.setenv("FAKE_DIE_ABOVE", "4096")
    hold.write_text("1")
    SlurmJobs(work).submit(work.tasks, retries=1)
    until(
        work, lambda seen: seen["train/fold1"].state == "failed" and "training" in seen["train/fold0"].detail
    )
    (array,) = (entry["job"] for entry in SlurmJobs(work).record if entry["step"] == "train")
    subprocess.run(["scancel", "--signal=USR1", "--batch", f"{array}_0"], check=True)
    seen = until(work, lambda seen: "requeued 1 times" in seen["train/fold0"].detail)
    assert seen["train/fold1"].detail.startswith(f"job {array}_1, FAILED: this fold does not train")
    assert "in finished tasks" in status.total(work)
    until(work, lambda seen: seen["train/fold0"].detail.startswith(f"job {array}_0 on "), seconds=120)
    reading = progress.read(work.folder(work.find("train/fold2")))
    assert reading is not None
    job_process = int(Path(f"/proc/{reading.process}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(job_process, signal.SIGKILL)
    killed = until(work, lambda seen: seen["train/fold2"].state == "failed")["train/fold2"].detail
    assert killed.startswith(f"job {array}_2, FAILED by signal 9 (out of memory, or killed): ")
    assert "killed by SIGKILL (often: out of memory)" in "\n".join(
        logs.lines(logs.newest_log(work, work.find("train/fold2")), follow=lambda: False)
    )
    for name in ("FAKE_FAIL", "FAKE_DIE"):
        monkeypatch.delenv(name)
    hold.write_text("")
    until(work, ended)
    SlurmJobs(work).submit(work.tasks)
    until(work, all_done)
    assert fake_steps.payload(work.run_dir) == undisturbed


def sbatch(*options: str) -> None:
    subprocess.run(["sbatch", "-o", "/dev/null", *options], check=True, capture_output=True)


def test_preempted_jobs_go_back_to_the_queue(
    work: Workspace, undisturbed: dict[str, object], hold: Path, real_slurm
) -> None:
    if real_slurm.sandbox is None:
        pytest.skip("only a sandbox has these partitions")
    hold.write_text("1")
    SlurmJobs(work).submit(work.tasks, ["--partition=spot"])
    until(work, trains)
    sbatch("--partition=main", "--nodes=2", "--exclusive", "--wrap", "sleep 2")
    until(work, all_done)
    logs = [path.read_text() for path in (work.run_dir / "logs").glob("slurm-fake.train-*.log")]
    assert sum("preempted: saved a checkpoint, back in the queue" in log for log in logs) == 3
    assert not list((work.run_dir / "logs").glob("requeued-*"))  # these are not out of time
    assert fake_steps.payload(work.run_dir) == undisturbed


def test_a_node_that_dies(work: Workspace, undisturbed: dict[str, object], hold: Path, real_slurm) -> None:
    """Its daemon is gone, then Slurm gives it up and requeues its jobs elsewhere, then its processes end."""
    hold.write_text("1")
    SlurmJobs(work).submit(work.tasks)
    until(work, trains)
    jobs = subprocess.run(["squeue", "-h", "-o", "%N"], capture_output=True, text=True, check=True)
    node = next(name for name in jobs.stdout.split() if name)
    readings = [progress.read(work.folder(work.find(task))) for task in TRAIN]
    update = ["scontrol", "update", f"NodeName={node}"]
    real_slurm.do("stop", f"slurmd-{node}")
    try:
        subprocess.run([*update, "State=DOWN", "Reason=test"], check=True)
        for reading in readings:
            assert reading is not None
            with suppress(ProcessLookupError):
                os.kill(reading.process, signal.SIGKILL)
        until(work, all_done)
    finally:
        real_slurm.do("start", f"slurmd-{node}")
        # refused where the node has come back by itself
        subprocess.run([*update, "State=RESUME"], check=False, capture_output=True)
    assert fake_steps.payload(work.run_dir) == undisturbed


@pytest.mark.nightly
def test_jobs_killed_again_and_again(
    work: Workspace, undisturbed: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Processes of tasks killed at random moments; what their jobs then leave is submitted again."""
    monkeypatch.setenv("FAKE_SLEEP", "0.1")
    began, moments, killed = time.monotonic(), random.Random(0), 0
    SlurmJobs(work).submit(work.tasks)
    while killed < JOB_KILLS:
        seen = rows(work)
        if all_done(seen):
            assert fake_steps.payload(work.run_dir) == undisturbed
            shutil.rmtree(work.run_dir)
        if ended(seen):
            SlurmJobs(work).submit(work.tasks)
        time.sleep(moments.uniform(0, 1))
        for task in work.tasks:
            reading = progress.read(work.folder(task))
            if reading and killed < JOB_KILLS and rows(work)[task.id].state == "running":
                with suppress(ProcessLookupError):
                    os.kill(reading.process, signal.SIGKILL)
                    killed += 1
    monkeypatch.setenv("FAKE_SLEEP", "0")
    until(work, ended)
    if not all_done(rows(work)):
        SlurmJobs(work).submit(work.tasks)
    until(work, all_done)
    assert fake_steps.payload(work.run_dir) == undisturbed
    nightly.add("killed: jobs of Slurm", killed, time.monotonic() - began)
