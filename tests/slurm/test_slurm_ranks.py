"""On a real Slurm: a task shared by two processes on two nodes; one dies, then Slurm asks them to stop."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from distributed_jobs import assert_same_teacher

from tiebreak.commands.init import init_recipe
from tiebreak.commands.status import task_statuses
from tiebreak.engine import local_runner
from tiebreak.engine.planner import select
from tiebreak.engine.workspace import Workspace
from tiebreak.slurm import client
from tiebreak.slurm.jobs import SlurmJobs

pytestmark = pytest.mark.thorough
TEACH = "teach/llama-fold0"
SETTINGS = (
    "compute.device=cpu",
    "compute.checkpoint_minutes=0",
    "compute.train_tokens=1024",
    "post_pretrain.enabled=false",
    "teach.folds=[0]",
    "teach.training.rows_per_step=8",
    "teach.training.epochs=3",
)


def submit(work: Workspace) -> str:
    """Returns the id of the job that trains."""
    made = SlurmJobs(work).submit(select(work, ["teach"]))
    return str(made[-1]["job"])


def wait_until_over() -> None:
    deadline = time.monotonic() + 240
    while client.queued():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def wait_for_step(work: Workspace, step: int) -> None:
    """Until the training stands still after that step."""
    deadline = time.monotonic() + 240
    while not list(work.run_dir.glob(f"artifacts/teach/*/checkpoint/step-{step:08d}")):
        assert client.queued(), f"the jobs are over, without step {step}"
        assert time.monotonic() < deadline
        time.sleep(0.05)


def second_process(work: Workspace) -> int:
    """The id of the second task that srun started."""
    order = str(work.folder(work.find(TEACH)) / "checkpoint" / "ranks" / "order.json").encode()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            arguments = (process / "cmdline").read_bytes().split(b"\0")
            environment = (process / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if order in arguments and b"srun" not in arguments and b"SLURM_PROCID=1" in environment:
            return int(process.name)
    raise AssertionError("no second process")


def test_two_nodes_share_a_task(tmp_path: Path, real_slurm: object, hold: Path) -> None:
    alone = Workspace(init_recipe(tmp_path / "alone" / "votes", "tiny", synthetic=160), SETTINGS)
    assert not local_runner.run(alone, select(alone, ["teach"])).failed
    recipe = init_recipe(tmp_path / "both" / "votes", "tiny", synthetic=160)
    both = Workspace(recipe, (*SETTINGS, "compute.processes=2", "slurm.nodes=2"))
    hold.write_text("2")
    submit(both)
    wait_for_step(both, 2)
    os.kill(second_process(both), signal.SIGKILL)
    hold.write_text("")
    wait_until_over()
    (failed,) = (row for row in task_statuses(both) if row.task == TEACH)
    assert failed.state == "failed"
    assert "process 1 of 2 died without a word (often: out of memory); the others were ended" in failed.detail
    hold.write_text("6")
    job = submit(both)
    wait_for_step(both, 6)
    subprocess.run(["scancel", "--signal=USR1", "--batch", job], check=True)
    wait_until_over()
    logs = "".join(path.read_text() for path in (both.run_dir / "logs").glob("slurm-*teach*"))
    assert "out of time: saved a checkpoint, back in the queue" in logs
    assert_same_teacher(alone.folder(alone.find(TEACH)), both.folder(both.find(TEACH)))
