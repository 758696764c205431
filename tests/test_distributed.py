"""Tests of process ranks, and of collective operations of a single process."""

import pytest
import torch
import torch.distributed as dist
from distributed_jobs import free_port

from tiebreak import distributed
from tiebreak.distributed import ProcessInfo
from tiebreak.errors import TiebreakError


@pytest.mark.parametrize(
    ("environment", "process"),
    [
        ({}, ProcessInfo(0, 1, 0)),
        ({"RANK": "3", "WORLD_SIZE": "8", "LOCAL_RANK": "1"}, ProcessInfo(3, 8, 1)),
        ({"SLURM_PROCID": "5", "SLURM_NTASKS": "6", "SLURM_LOCALID": "2"}, ProcessInfo(5, 6, 2)),
        (
            {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "SLURM_PROCID": "9", "SLURM_NTASKS": "9"},
            ProcessInfo(0, 2, 0),
        ),
        ({"SLURM_NTASKS": "4"}, ProcessInfo(0, 1, 0)),
    ],
)
def test_process_info(environment: dict[str, str], process: ProcessInfo) -> None:
    assert distributed.process_info(environment) == process


def test_alone() -> None:
    assert (
        distributed.rank(),
        distributed.world_size(),
        distributed.is_main_process(),
        distributed.is_sharded(),
    ) == (
        0,
        1,
        True,
        False,
    )
    assert distributed.all_reduce_max(1.0, -2.0) == [1.0, -2.0]
    assert distributed.broadcast(True)
    assert not distributed.broadcast(False)
    assert distributed.all_equal(3)
    tensor = torch.ones(3)
    distributed.all_reduce_sum([tensor])
    assert tensor.tolist() == [1, 1, 1]
    rows = torch.rand(4, 3)
    assert distributed.join_rows(rows, torch.zeros(4, dtype=torch.bool)) is rows


def test_an_error_does_not_wait_for_peers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Destroying a group may wait for peers inside a collective, and the error would not be reported."""
    for name, value in (("ADDR", "127.0.0.1"), ("PORT", str(free_port()))):
        monkeypatch.setenv(f"MASTER_{name}", value)
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
    try:
        with pytest.raises(ValueError, match="bad"), distributed.process_group(ProcessInfo(0, 1, 0), "cpu"):
            raise ValueError("bad")
        assert dist.is_initialized()
    finally:
        dist.destroy_process_group()


@pytest.mark.parametrize("values", ["0,x,0", ",1,0", "-1,2,0", "2,2,0", "0,0,0", "0,2,2", "1.0,2,0"])
def test_what_is_no_rank_is_refused(values: str) -> None:
    environment = dict(zip(("RANK", "WORLD_SIZE", "LOCAL_RANK"), values.split(","), strict=True))
    with pytest.raises(TiebreakError, match="no rank of one of several processes; unset them"):
        distributed.process_info(environment)
