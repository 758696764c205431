"""Who a process is; what a single process makes of decisions and sums."""

import pytest
import torch
import torch.distributed as dist
from ranks import free_port

from tiebreak import distributed
from tiebreak.distributed import Place


@pytest.mark.parametrize(
    ("environment", "place"),
    [
        ({}, Place(0, 1, 0)),
        ({"RANK": "3", "WORLD_SIZE": "8", "LOCAL_RANK": "1"}, Place(3, 8, 1)),
        ({"SLURM_PROCID": "5", "SLURM_NTASKS": "6", "SLURM_LOCALID": "2"}, Place(5, 6, 2)),
        (
            {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "SLURM_PROCID": "9", "SLURM_NTASKS": "9"},
            Place(0, 2, 0),
        ),
        ({"SLURM_NTASKS": "4"}, Place(0, 1, 0)),
    ],
)
def test_place(environment: dict[str, str], place: Place) -> None:
    assert distributed.place(environment) == place


def test_alone() -> None:
    assert (distributed.rank(), distributed.size(), distributed.leads(), distributed.shards()) == (
        0,
        1,
        True,
        False,
    )
    assert distributed.most(1.0, -2.0) == [1.0, -2.0]
    assert distributed.first(True)
    assert not distributed.first(False)
    assert distributed.alike(3)
    tensor = torch.ones(3)
    distributed.add_up([tensor])
    assert tensor.tolist() == [1, 1, 1]
    rows = torch.rand(4, 3)
    assert distributed.join_rows(rows, torch.zeros(4, dtype=torch.bool)) is rows


def test_an_error_does_not_wait_for_peers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaving a group may wait for those that sit in a sum, and nobody would hear of the error."""
    for name, value in (("ADDR", "127.0.0.1"), ("PORT", str(free_port()))):
        monkeypatch.setenv(f"MASTER_{name}", value)
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
    try:
        with pytest.raises(ValueError, match="bad"), distributed.joined(Place(0, 1, 0), "cpu"):
            raise ValueError("bad")
        assert dist.is_initialized()
    finally:
        dist.destroy_process_group()
