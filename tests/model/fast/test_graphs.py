"""Tests of recorded graphs: which calls run, record and replay. Recording itself needs a GPU."""

import logging

import pytest
import torch

from tiebreak.model.fast import graphs
from tiebreak.model.fast.graphs import Graphs


class Replay:
    """A recording that computes anew, as a replayed graph does."""

    def __init__(self, function) -> None:
        self.function, self.count = function, 0

    def replay(self, inputs: tuple[torch.Tensor, ...]) -> torch.Tensor:
        self.count += 1
        return self.function(*inputs)


def test_a_shape_is_run_then_recorded_and_replayed(monkeypatch: pytest.MonkeyPatch) -> None:
    ran, recorded = [], []

    def double(x: torch.Tensor) -> torch.Tensor:
        ran.append(len(x))
        return 2 * x

    ours = Graphs(double)
    replay = Replay(lambda x: 2 * x)
    monkeypatch.setattr(ours, "_record", lambda inputs: recorded.append(len(inputs[0])) or replay)
    for value in (1.0, 2.0, 3.0):
        assert torch.equal(ours(torch.full((4,), value)), torch.full((4,), 2 * value))
    assert (ran, recorded, replay.count, ours.recorded) == ([4], [4], 2, 1)
    ours(torch.ones(4), state=True)
    ours(torch.ones(5))
    assert ran == [4, 4, 5], "another state and another shape run first"
    ours.forget()
    ours(torch.ones(4))
    assert ran == [4, 4, 5, 4]
    assert ours.recorded == 0


def test_what_cannot_be_recorded_runs_with_one_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(inputs: tuple[torch.Tensor, ...]) -> None:
        raise RuntimeError("operation not permitted when stream is capturing")

    ours = Graphs(lambda x: x + 1)
    monkeypatch.setattr(ours, "_record", fails)
    with caplog.at_level(logging.WARNING):
        assert [ours(torch.ones(1)).item() for _ in range(4)] == [2.0] * 4
    (warning,) = [record.getMessage() for record in caplog.records]
    assert warning.startswith("no CUDA graphs: RuntimeError: operation not permitted")


def test_memory_that_runs_out_while_recording_is_the_callers_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(inputs: tuple[torch.Tensor, ...]) -> None:
        raise torch.cuda.OutOfMemoryError("out of memory")

    ours = Graphs(lambda x: x)
    monkeypatch.setattr(ours, "_record", fails)
    ours(torch.ones(1))
    with pytest.raises(torch.cuda.OutOfMemoryError):
        ours(torch.ones(1))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="CUDA graphs need a GPU")
def test_a_recording_reads_its_inputs_and_parameters_anew() -> None:
    weight = torch.nn.Parameter(torch.ones(3, device="cuda"))
    ours = Graphs(lambda x: (x * weight).sum())
    for value in (1.0, 2.0, 3.0, 4.0):
        with torch.no_grad():
            weight.fill_(value)
            assert ours(torch.full((3,), value, device="cuda")).item() == 3 * value**2
    assert ours.recorded == 1
    assert graphs.MOST_WORK > 0
