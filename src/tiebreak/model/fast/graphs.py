"""CUDA graphs of a small model's work, whose kernels take less time than their launches (docs/speed.md)."""

import logging
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

log = logging.getLogger(__name__)

MOST_WORK = 2.5e13
"""Parameters times tokens up to which a forward's launches may take longer than its kernels."""


@dataclass(frozen=True)
class _Recording:
    graph: torch.cuda.CUDAGraph
    inputs: tuple[Tensor, ...]
    output: Tensor

    def replay(self, inputs: tuple[Tensor, ...]) -> Tensor:
        for own, given in zip(self.inputs, inputs, strict=True):
            own.copy_(given, non_blocking=True)
        self.graph.replay()
        return self.output


class Graphs:
    """A function of tensors on a GPU, recorded as a CUDA graph for each shape of its inputs.

    The first call of a shape runs the function, which compiles what it needs; the second records it, and from then on
    it is replayed. Whatever else the function reads or writes must stay where it is in memory. An output holds until
    the next call, in the order of the stream.
    """

    def __init__(self, function: Callable[..., Tensor]) -> None:
        self._function = function
        self._recordings: dict[Hashable, _Recording | None] = {}
        self._pool: Any = None
        self._works = True

    def __call__(self, *inputs: Tensor, state: Hashable = None) -> Tensor:
        """function(*inputs). state: what else the function depends on."""
        key = (state, *(x.shape for x in inputs))
        if not self._works or key not in self._recordings:
            self._recordings[key] = None
            return self._function(*inputs)
        recording = self._recordings[key]
        if recording is None:
            try:
                recording = self._recordings[key] = self._record(inputs)
            except torch.cuda.OutOfMemoryError:
                raise
            except Exception as error:  # a kernel that cannot be recorded may raise anything
                log.warning("no CUDA graphs: %s: %.200s; going on without", type(error).__name__, error)
                self._works = False
                return self._function(*inputs)
        return recording.replay(inputs)

    @property
    def recorded(self) -> int:
        """The number of shapes that were recorded."""
        return sum(recording is not None for recording in self._recordings.values())

    def forget(self) -> None:
        """Free all recordings and their memory."""
        self._recordings.clear()
        self._pool = None

    def _record(self, inputs: tuple[Tensor, ...]) -> _Recording:
        own = tuple(x.clone() for x in inputs)
        self._pool = self._pool or torch.cuda.graph_pool_handle()
        torch.cuda.empty_cache()  # a recording has memory of its own
        graph = torch.cuda.CUDAGraph()
        # other threads may allocate page-locked memory meanwhile
        with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
            output = self._function(*own)
        return _Recording(graph, own, output)
