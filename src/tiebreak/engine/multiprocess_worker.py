"""Multiprocess worker, one process of a task: python -m tiebreak.engine.multiprocess_worker ORDER."""

import json
import os
import signal
import sys
import time
import traceback
from contextlib import suppress
from pathlib import Path

from tiebreak import distributed, terminal
from tiebreak.engine.multiprocess import Failure, WorkerSpec
from tiebreak.engine.progress import Reporter
from tiebreak.engine.signals import STOPPING, kill_on_parent_exit, unblock_signals
from tiebreak.engine.task_runner import describe_error, runtime_of
from tiebreak.engine.tracking import Tracking
from tiebreak.engine.workspace import Workspace
from tiebreak.errors import Interrupted, TiebreakError
from tiebreak.full_disk import FullDisk, full_disk_as_error
from tiebreak.output import write_atomically


def main(spec: WorkerSpec) -> int:
    """Run this process's part; returns the exit code. A failure is written for the parent."""
    for number in STOPPING:  # the parent handles them, and writes a file
        signal.signal(number, signal.SIG_IGN)
    unblock_signals()
    if spec.parent:
        kill_on_parent_exit(spec.parent)
    place = distributed.process_info(os.environ)
    if place.rank == 0:
        terminal.log_to_stderr()
    try:
        with full_disk_as_error(spec.folder):
            _work(spec, place)
    except Interrupted:
        return 0  # without metrics; any other code would have srun kill the rest
    except BaseException as error:
        _write_failure(spec, place.rank, error)
        return 1
    return 0


def _work(spec: WorkerSpec, place: distributed.ProcessInfo) -> None:
    work = Workspace(spec.recipe, spec.overrides)
    task = work.find(spec.task)
    if work.key(task) != spec.key:
        raise TiebreakError(f"what {task.id} reads has changed while the run went on; run again")
    if spec.device == "cuda":
        import torch

        torch.cuda.set_device((spec.first_card + place.local_rank) % torch.cuda.device_count())
    compute = work.recipe.compute
    reporter = Reporter(spec.folder, lambda line: None, compute.log_every)
    with (
        Tracking(work, task) as tracking,
        distributed.process_group(place, spec.device, compute.shard_model),
    ):
        report = None if place.rank else tracking.reporting(reporter)
        runtime = runtime_of(compute, spec.folder, spec.device, spec.stop.exists, report)
        metrics = task.step.run(task.settings, spec.inputs, spec.folder, runtime)
    if runtime.is_main:
        write_atomically(spec.metrics, json.dumps(metrics))


def _write_failure(spec: WorkerSpec, rank: int, error: BaseException) -> None:
    from torch.distributed import DistError

    of_a_peer = isinstance(error, DistError) or (isinstance(error, RuntimeError) and "gloo" in str(error))
    if not (of_a_peer or isinstance(error, TiebreakError)):
        traceback.print_exception(error)
    failure = Failure(text=describe_error(error), of_a_peer=of_a_peer, when=time.time())
    with suppress(OSError, FullDisk):  # the parent sees that the disk is full
        write_atomically(spec.failure(rank), failure.model_dump_json())


if __name__ == "__main__":
    with terminal.guarded():
        code = main(WorkerSpec.model_validate_json(Path(sys.argv[1]).read_bytes()))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # a process group may wait for dead peers at interpreter exit
