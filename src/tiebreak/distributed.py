"""Several processes at one task, one GPU each: who they are, sums over them, decisions they take together.

Without `joined` every function is that of a single process, so the code that calls them has one path.
Decisions go through gloo on the CPU, sums of gradients through NCCL where they lie on a GPU.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from itertools import count

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed import PrefixStore, rendezvous  # type: ignore[attr-defined]

TIMEOUT = timedelta(minutes=30)
"""For a peer that hangs; one that dies is noticed at once."""
BUCKET = 2**25
"""Numbers that are summed in one go."""
_sharded = False
_meetings = count()


@dataclass(frozen=True)
class Place:
    """Which of how many processes this is; `local` counts on its own machine."""

    rank: int
    size: int
    local: int


def place(environment: Mapping[str, str]) -> Place:
    """The place that torchrun's variables name, or srun's; a single process where there are none."""
    for names in (("RANK", "WORLD_SIZE", "LOCAL_RANK"), ("SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID")):
        if all(name in environment for name in names):
            return Place(*(int(environment[name]) for name in names))
    return Place(0, 1, 0)


@contextmanager
def joined(where: Place, device: str, shard_model: bool = False) -> Iterator[None]:
    """Meet the other processes at MASTER_ADDR and MASTER_PORT, for as long as the context lasts.

    shard_model: frozen weights are spread over the processes (model.shard).
    An error leaves the group as it is, for the process to tell it and end: with NCCL, leaving waits for peers
    that sit in a sum.
    """
    global _sharded
    backend = "cpu:gloo,cuda:nccl" if device == "cuda" else "gloo"
    store, _, _ = next(rendezvous("env://", where.rank, where.size, timeout=TIMEOUT))
    # a store outlives a group, and the next group would find the addresses of the last
    store = PrefixStore(f"meeting {next(_meetings)}", store)
    dist.init_process_group(backend, store=store, rank=where.rank, world_size=where.size, timeout=TIMEOUT)
    if device == "cuda":  # NCCL takes its memory, and says what is wrong with it, before any work
        dist.barrier(device_ids=[torch.cuda.current_device()])
    _sharded = shard_model and where.size > 1
    yield
    dist.barrier(device_ids=[torch.cuda.current_device()] if device == "cuda" else None)
    _sharded = False
    dist.destroy_process_group()


def rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


def size() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def leads() -> bool:
    """Is this the process that writes?"""
    return rank() == 0


def shards() -> bool:
    """Are frozen weights spread over the processes? Then all must run their forwards in step."""
    return _sharded


def most(*values: float) -> list[float]:
    """The largest of each value over all processes; waits for all of them."""
    if size() == 1:
        return list(values)
    tensor = torch.tensor(values, dtype=torch.float64)
    dist.all_reduce(tensor, dist.ReduceOp.MAX)
    found: list[float] = tensor.tolist()
    return found


def meet() -> None:
    """Wait until every process is here."""
    most(0.0)


def alike(value: float) -> bool:
    """Do all processes have the same value?"""
    highest, lowest = most(value, -value)
    return highest == -lowest


def first(value: bool) -> bool:
    """What the first process says."""
    return bool(most(float(value and leads()))[0])


def add_up(tensors: Sequence[Tensor]) -> None:
    """Replace tensors of one type and device by their sums over the processes, in place."""
    if size() == 1:
        return
    for bucket in _buckets(tensors):
        flat = torch.cat([tensor.reshape(-1) for tensor in bucket])
        dist.all_reduce(flat)
        parts = torch.split(flat, [tensor.numel() for tensor in bucket])
        for tensor, part in zip(bucket, parts, strict=True):
            tensor.copy_(part.view_as(tensor))


def _buckets(tensors: Iterable[Tensor]) -> Iterator[list[Tensor]]:
    bucket: list[Tensor] = []
    for tensor in tensors:
        if bucket and sum(each.numel() for each in bucket) + tensor.numel() > BUCKET:
            yield bucket
            bucket = []
        bucket.append(tensor)
    if bucket:
        yield bucket


def join_rows(values_RC: Tensor, mine_R: Tensor) -> Tensor:
    """Rows that each process has some of, whole on all of them. Raises RuntimeError unless each is once."""
    if size() == 1:
        return values_RC
    counted_RC = torch.cat([values_RC * mine_R[:, None], mine_R[:, None].to(values_RC.dtype)], dim=1)
    dist.all_reduce(counted_RC)
    if not (counted_RC[:, -1] == 1).all():
        raise RuntimeError(f"{int((counted_RC[:, -1] != 1).sum())} rows were not scored exactly once")
    return counted_RC[:, :-1]
