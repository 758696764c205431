"""Time and memory of work on a card, which runs on after a call returns."""

import time
from collections.abc import Callable

import torch
from torch.profiler import ProfilerActivity, profile


def synchronised() -> float:
    """The time once the card has done all it was given."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def begun() -> float:
    """The time once the card has done all it was given; `peak_gib` counts from here."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    return synchronised()


def timed(work: Callable[[], object]) -> float:
    start = begun()
    work()
    return synchronised() - start


def busy(work: Callable[[], object]) -> float:
    """Seconds that a card worked, gaps between its kernels left out; on a CPU, the time that passed."""
    if not torch.cuda.is_available():
        return timed(work)
    with profile(activities=[ProfilerActivity.CUDA]) as seen:
        work()
        torch.cuda.synchronize()
    return sum(event.self_device_time_total for event in seen.key_averages()) / 1e6


def peak_gib() -> float:
    return torch.cuda.max_memory_allocated() / 2**30 if torch.cuda.is_available() else 0.0


def peak_tflops(device: str, size: int) -> float:
    """Of a bf16 product of square matrices: what the card really reaches."""
    x = torch.randn(size, size, device=device, dtype=torch.bfloat16)
    x @ x
    return 20 * 2 * size**3 / timed(lambda: [x @ x for _ in range(20)]) / 1e12
