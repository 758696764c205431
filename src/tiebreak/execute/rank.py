"""One of the processes that share a task: python -m tiebreak.execute.rank ORDER."""

import json
import logging
import os
import signal
import sys
import time
import traceback
from pathlib import Path

from tiebreak import distributed
from tiebreak.errors import Interrupted, TiebreakError
from tiebreak.execute.artifacts import write_atomically
from tiebreak.execute.progress import Reporter
from tiebreak.execute.ranks import Failure, Order
from tiebreak.execute.signals import STOPPING, die_with, hear
from tiebreak.execute.task import describe, runtime_of
from tiebreak.execute.workspace import Workspace


def main(order: Order) -> int:
    """Do this process's part; returns the exit code. What failed is left for the parent."""
    for number in STOPPING:  # the parent hears them, and leaves a file
        signal.signal(number, signal.SIG_IGN)
    hear()
    if order.parent:
        die_with(order.parent)
    where = distributed.place(os.environ)
    if where.rank == 0:
        logging.basicConfig(format="%(message)s")
        logging.getLogger("tiebreak").setLevel(logging.INFO)
    try:
        _work(order, where)
    except Interrupted:
        return 0  # without metrics; any other code would have srun kill the rest
    except BaseException as error:
        _tell(order, where.rank, error)
        return 1
    return 0


def _work(order: Order, where: distributed.Place) -> None:
    work = Workspace(order.recipe, order.overrides)
    task = work.find(order.task)
    if work.key(task) != order.key:
        raise TiebreakError(f"what {task.id} reads has changed while the run went on; run again")
    if order.device == "cuda":
        import torch

        torch.cuda.set_device((order.first_card + where.local) % torch.cuda.device_count())
    compute = work.recipe.compute
    report = None if where.rank else Reporter(order.folder, lambda line: None, compute.log_every)
    runtime = runtime_of(compute, order.folder, order.device, order.stop.exists, report)
    with distributed.joined(where, order.device, compute.shard_model):
        metrics = task.step.run(task.settings, order.inputs, order.folder, runtime)
    if runtime.leads:
        write_atomically(order.metrics, json.dumps(metrics))


def _tell(order: Order, rank: int, error: BaseException) -> None:
    from torch.distributed import DistError

    of_a_peer = isinstance(error, DistError) or (isinstance(error, RuntimeError) and "gloo" in str(error))
    if not (of_a_peer or isinstance(error, TiebreakError)):
        traceback.print_exception(error)
    failure = Failure(text=describe(error), of_a_peer=of_a_peer, when=time.time())
    write_atomically(order.failure(rank), failure.model_dump_json())


if __name__ == "__main__":
    code = main(Order.model_validate_json(Path(sys.argv[1]).read_bytes()))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # a group whose peers are gone may wait for them at the interpreter's end
