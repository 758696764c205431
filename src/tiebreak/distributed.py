"""Collective operations of several processes on one task, one GPU each: ranks, reductions, broadcasts.

Without `process_group` every function has the result for a single process, so that callers need no special case.
Scalars go through gloo on the CPU, sums of gradients on a GPU through NCCL.
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

from tiebreak.errors import TiebreakError

TIMEOUT = timedelta(minutes=30)
"""The timeout for a peer that hangs; one that dies is noticed at once."""
BUCKET = 2**25
"""The largest number of elements in one all-reduce."""
_sharded = False
_group_numbers = count()


@dataclass(frozen=True)
class ProcessInfo:
    """The rank of this process, the number of processes, and its rank on its own machine."""

    rank: int
    world_size: int
    local_rank: int


def process_info(environment: Mapping[str, str]) -> ProcessInfo:
    """The process described by the variables of torchrun, or of srun; a single process where there are none.

    Raises TiebreakError for what is no rank among so many processes.
    """
    for names in (("RANK", "WORLD_SIZE", "LOCAL_RANK"), ("SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID")):
        if all(name in environment for name in names):
            texts = [environment[name] for name in names]
            found = [int(text) if text.isdecimal() else -1 for text in texts]
            if not 0 <= found[0] < found[1] or not 0 <= found[2] < found[1]:
                given = ", ".join(f"{name}={text!r}" for name, text in zip(names, texts, strict=True))
                raise TiebreakError(
                    f"{given}: no rank of one of several processes; unset them, or start the processes with torchrun or srun"
                )
            return ProcessInfo(*found)
    return ProcessInfo(0, 1, 0)


@contextmanager
def process_group(process: ProcessInfo, device: str, shard_model: bool = False) -> Iterator[None]:
    """Join the other processes at MASTER_ADDR and MASTER_PORT for the duration of the context.

    shard_model: frozen weights are sharded over the processes (model.fast.fsdp).
    An error does not destroy the group, so that the process can report it and exit: with NCCL, destroying waits for
    peers that are inside a collective.
    """
    global _sharded
    backend = "cpu:gloo,cuda:nccl" if device == "cuda" else "gloo"
    store, _, _ = next(rendezvous("env://", process.rank, process.world_size, timeout=TIMEOUT))
    # a store outlives its group, and the next group would read the addresses of the last
    store = PrefixStore(f"meeting {next(_group_numbers)}", store)
    dist.init_process_group(
        backend, store=store, rank=process.rank, world_size=process.world_size, timeout=TIMEOUT
    )
    if device == "cuda":  # NCCL allocates its memory and reports its errors before any work
        dist.barrier(device_ids=[torch.cuda.current_device()])
    _sharded = shard_model and process.world_size > 1
    yield
    dist.barrier(device_ids=[torch.cuda.current_device()] if device == "cuda" else None)
    _sharded = False
    dist.destroy_process_group()


def rank() -> int:
    """The rank of this process."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """The number of processes."""
    return dist.get_world_size() if dist.is_initialized() else 1


def is_main_process() -> bool:
    """True in the process that writes, the one of rank 0."""
    return rank() == 0


def is_sharded() -> bool:
    """True if frozen weights are sharded over the processes; then all must run the same number of forwards."""
    return _sharded


def all_reduce_max(*values: float) -> list[float]:
    """The maximum of each value over all processes; waits for all of them."""
    if world_size() == 1:
        return list(values)
    tensor = torch.tensor(values, dtype=torch.float64)
    dist.all_reduce(tensor, dist.ReduceOp.MAX)
    maxima: list[float] = tensor.tolist()
    return maxima


def barrier() -> None:
    """Wait until every process calls this."""
    all_reduce_max(0.0)


def all_equal(value: float) -> bool:
    """True if all processes pass the same value."""
    highest, lowest = all_reduce_max(value, -value)
    return highest == -lowest


def broadcast(value: bool) -> bool:
    """The value of the process of rank 0."""
    return bool(all_reduce_max(float(value and is_main_process()))[0])


def all_reduce_sum(tensors: Sequence[Tensor]) -> None:
    """Replace tensors of one type and device by their sums over the processes, in place."""
    if world_size() == 1:
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
    """All rows on every process, from rows of which each process computed some (`mine_R`).

    Raises RuntimeError unless exactly one process computed each row.
    """
    if world_size() == 1:
        return values_RC
    counted_RC = torch.cat([values_RC * mine_R[:, None], mine_R[:, None].to(values_RC.dtype)], dim=1)
    dist.all_reduce(counted_RC)
    if not (counted_RC[:, -1] == 1).all():
        raise RuntimeError(f"{int((counted_RC[:, -1] != 1).sum())} rows were not scored exactly once")
    return counted_RC[:, :-1]
