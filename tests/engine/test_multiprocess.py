"""A task run by two processes: the result of one, and one clear message when one of them dies."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from distributed_jobs import assert_same_teacher
from forked import Tiebreak

from tiebreak.commands.init import init_recipe
from tiebreak.engine import multiprocess
from tiebreak.engine.task_runner import run_task
from tiebreak.engine.workspace import Workspace
from tiebreak.errors import Interrupted, ProcessDied, TiebreakError
from tiebreak.recipe.loader import load

TEACH, SCORE = "teach/llama-fold0", "score/llama-fold0-1of1"
SETTINGS = (
    "compute.device=cpu",
    "compute.checkpoint_minutes=0",
    "compute.train_tokens=1024",
    "post_pretrain.enabled=false",
    "teach.training.rows_per_step=8",
    "teach.training.epochs=1",
)


@pytest.fixture(scope="session")
def alone(once: Callable[..., Path]) -> Workspace:
    """A teacher of tiny votes and its logits, by one process."""

    def make(folder: Path) -> None:
        work = Workspace(init_recipe(folder / "votes", "tiny", synthetic=160), SETTINGS)
        for task in work.tasks:
            if task.step.name in ("ingest", "split") or task.id in (TEACH, SCORE):
                run_task(work, task, lambda line: None, lambda: False)

    return Workspace(once("alone", make) / "votes" / "recipe.yaml", SETTINGS)


@pytest.fixture
def folder(alone: Workspace, tmp_path: Path) -> Path:
    """The same votes, the teacher yet to be trained."""
    shutil.copytree(alone.root, tmp_path / "votes")
    for step in ("teach", "score"):
        shutil.rmtree(tmp_path / "votes" / "run" / "artifacts" / step)
    return tmp_path / "votes"


def launch(
    folder: Path, task: str, *sets: str, processes: int = 2, retries: int = 0, real: bool = False
) -> Tiebreak:
    settings = [*SETTINGS, f"compute.processes={processes}", *sets]
    options = [part for setting in settings for part in ("--set", setting)]
    return Tiebreak("task", folder, task, f"--retry={retries}", *options, fork_ranks=not real)


def finish(folder: Path, task: str, *sets: str, processes: int = 2, real: bool = False) -> Path:
    """Run a task to its end; returns its folder."""
    return Path(launch(folder, task, *sets, processes=processes, real=real).finish().strip())


def train_until(folder: Path, hold: Path, steps: int, retries: int = 0) -> Tiebreak:
    """A training by two processes that stands still after so many steps."""
    hold.write_text(str(steps))
    training = launch(folder, TEACH, retries=retries)
    deadline = time.monotonic() + 240
    while not list(folder.glob(f"run/artifacts/teach/*/checkpoint/step-{steps:08d}")):
        assert training.poll() is None, training.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return training


def process_of(training: Tiebreak, rank: int) -> int:
    """The id of one of the processes that share the task."""
    found = [str(training.pid)]
    for process in found:  # with those of a worker, where there is one
        found += Path(f"/proc/{process}/task/{process}/children").read_text().split()
        if Path(f"/proc/{process}/comm").read_text() == f"rank {rank}\n":
            return int(process)
    raise AssertionError(f"no rank {rank} among {found}")


@pytest.mark.slow
def test_two_processes_make_what_one_makes(alone: Workspace, folder: Path) -> None:
    teacher = finish(folder, TEACH, real=True)
    assert_same_teacher(alone.folder(alone.find(TEACH)), teacher)
    assert sorted(os.listdir(teacher)) == [".lock", "adapter", "curve.json", "manifest.json"]
    logits = pq.read_table(finish(folder, SCORE, "compute.shard_model=true") / "logits.parquet")
    expected = pq.read_table(alone.folder(alone.find(SCORE)) / "logits.parquet")
    for column in ("id", "order", "split", "origin", "model", "fold"):
        assert logits[column].equals(expected[column]), column
    for column in ("z_first", "z_second", "z_tie"):
        np.testing.assert_allclose(logits[column], expected[column], atol=5e-4)


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_a_process_that_dies_ends_the_task_with_one_message(
    rank: int, alone: Workspace, folder: Path, hold: Path
) -> None:
    training = train_until(folder, hold, 2)
    os.kill(process_of(training, rank), signal.SIGKILL)
    hold.write_text("")
    _, err = training.communicate(timeout=300)
    assert training.returncode == 2
    assert err.splitlines()[-1] == (
        f"error: process {rank} of 2 was killed by SIGKILL (often: out of memory); the others were ended"
    )
    assert err.count("error") == 1
    assert "Traceback" not in err
    if rank:
        assert_same_teacher(alone.folder(alone.find(TEACH)), finish(folder, TEACH))


@pytest.mark.slow
def test_a_task_whose_process_dies_starts_again_with_half_the_tokens(
    alone: Workspace, folder: Path, hold: Path
) -> None:
    training = train_until(folder, hold, 2, retries=1)
    os.kill(process_of(training, 1), signal.SIGKILL)
    hold.write_text("")
    _, err = training.communicate(timeout=300)
    assert training.returncode == 0, err
    assert (
        "process 1 of 2 was killed by SIGKILL (often: out of memory); the others were ended; "
        "again, with half the tokens in a forward (1 of 1)"
    ) in err
    assert_same_teacher(alone.folder(alone.find(TEACH)), finish(folder, TEACH))


@pytest.mark.slow
def test_a_signal_to_all_saves_a_checkpoint_and_one_process_resumes(
    alone: Workspace, folder: Path, hold: Path
) -> None:
    training = train_until(folder, hold, 1)
    os.killpg(training.pid, signal.SIGTERM)
    _, err = training.communicate(timeout=300)
    assert training.returncode == 143
    assert "go on with: tiebreak" in err
    assert "Traceback" not in err
    (left,) = folder.glob("run/artifacts/teach/*/checkpoint")
    assert not (left / "ranks").exists()
    assert_same_teacher(alone.folder(alone.find(TEACH)), finish(folder, TEACH, processes=1))


@pytest.mark.slow
def test_a_signal_to_all_while_the_processes_start_is_no_crash(folder: Path) -> None:
    training = launch(folder, TEACH, real=True)
    children = Path(f"/proc/{training.pid}/task/{training.pid}/children")
    while len(children.read_text().split()) < 2:
        assert training.poll() is None, training.communicate()
        time.sleep(0.01)
    os.killpg(training.pid, signal.SIGINT)
    _, err = training.communicate(timeout=300)
    assert training.returncode == 130, err
    assert not list(folder.glob("run/artifacts/teach/*/error.txt"))


def test_a_starting_process_survives_a_signal_before_its_handlers() -> None:
    command = [sys.executable, "-c", "import os, signal; os.kill(os.getpid(), signal.SIGTERM)"]
    (started,) = multiprocess._start_local(command, 1, os.environ)
    assert started.wait() == 0


@pytest.mark.slow
def test_the_cores_are_shared_whatever_library_counts_them() -> None:
    command = [sys.executable, "-c", "import torch, sys; sys.exit(torch.get_num_threads())"]
    started = multiprocess._start_local(
        command, 2, os.environ | dict.fromkeys(multiprocess.THREAD_VARIABLES, "4")
    )
    assert [process.wait() for process in started] == [2, 2]


def test_processes_that_die_of_a_stop_are_interrupted(tmp_path: Path) -> None:
    spec = multiprocess.WorkerSpec(
        recipe=tmp_path,
        overrides=(),
        task=TEACH,
        key="",
        inputs={},
        folder=tmp_path,
        device="cpu",
        first_card=0,
        parent=0,
    )
    srun = subprocess.Popen(["false"])
    srun.wait()
    with pytest.raises(Interrupted):
        multiprocess._raise_on_failure([srun], spec, 2, lambda: True)
    with pytest.raises(ProcessDied, match="process 0 or 1 of 2 died without a word"):
        multiprocess._raise_on_failure([srun], spec, 2, lambda: False)
    spec.exchange_folder.mkdir(parents=True)
    lost = multiprocess.Failure(text="NCCL error: out of memory", of_a_peer=True, when=2.0)
    spec.failure(0).write_text(lost.model_dump_json())
    with pytest.raises(ProcessDied, match=r"1 of 2 died .*; process 0 says: NCCL error: out of memory$"):
        multiprocess._raise_on_failure([srun], spec, 2, lambda: False)
    with subprocess.Popen(["sleep", "60"]) as alive:
        with pytest.raises(ProcessDied, match=r"^NCCL error: out of memory \(process 0 of 2; the others"):
            multiprocess._raise_on_failure([srun, alive], spec, 2, lambda: False)
        alive.kill()
    failure = multiprocess.Failure(text="the loss became nan", of_a_peer=False, when=1.0)
    spec.failure(1).write_text(failure.model_dump_json())
    with pytest.raises(TiebreakError, match="the loss became nan"):
        multiprocess._raise_on_failure([srun], spec, 2, lambda: True)


@pytest.mark.slow
def test_an_error_of_all_processes_is_reported_once(folder: Path) -> None:
    training = launch(folder, TEACH, "teach.training.learning_rate=1.0e+30", "teach.training.epochs=3")
    _, err = training.communicate(timeout=300)
    assert training.returncode == 2
    assert re.fullmatch(
        r"error: the loss became \S+ at learning rate .* \(process [01] of 2; the others were ended\)",
        err.splitlines()[-1],
    )
    assert err.count("the loss became") == 1


@pytest.mark.slow
def test_a_task_dies_with_its_parent(folder: Path, hold: Path) -> None:
    training = train_until(folder, hold, 1)
    ours = [process_of(training, rank) for rank in (0, 1)]
    training.kill()
    training.communicate(timeout=300)
    deadline = time.monotonic() + 30
    while any(Path(f"/proc/{process}/cmdline").exists() for process in ours):
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.slow
def test_processes_are_spread_evenly_over_nodes(folder: Path) -> None:
    assert load(folder / "recipe.yaml", ("compute.processes=4", "slurm.nodes=2")).slurm.nodes == 2
    with pytest.raises(
        TiebreakError, match=r"compute.processes 3 cannot be spread evenly over slurm.nodes 2"
    ):
        load(folder / "recipe.yaml", ("compute.processes=3", "slurm.nodes=2"))
