"""Jobs run by several processes over gloo, as the processes of one task run."""

import json
import os
import socket
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from forked import CONTEXT
from reference_kernels import kernel_model, reference_kernel
from safetensors.numpy import load_file
from tiny_models import votes

from tiebreak import distributed
from tiebreak.errors import Interrupted
from tiebreak.judge import scoring_parts
from tiebreak.judge.scoring import both_orders, score
from tiebreak.model.classifier import Classifier, load, load_adapted
from tiebreak.model.fast.kernel_variants import Deviation, compare_layers
from tiebreak.model.lora import adapter_state
from tiebreak.recipe.models import Lora
from tiebreak.recipe.schema import Prompt, Training
from tiebreak.runtime import Runtime
from tiebreak.tokens.packing import Packed
from tiebreak.tokens.prompt import tokenize
from tiebreak.training.fit import fit
from tiebreak.votes import splits


@dataclass(frozen=True)
class Job:
    """A function that can be imported by name, and its arguments."""

    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    shard_model: bool = False
    device: str = "cpu"


def run_distributed(size: int, jobs: Sequence[Job]) -> list[list[Any]]:
    """The result of each job in each of `size` processes, which run the jobs one after another."""
    ports = [free_port() for _ in jobs]
    started = []
    for rank in range(size):
        ours, theirs = CONTEXT.Pipe()
        process = CONTEXT.Process(target=_work, args=(theirs, ports, rank, size, jobs))
        process.start()
        started.append((process, ours))
        theirs.close()
    results = [_received([ours for _, ours in started]) for _ in jobs]
    for process, _ in started:
        process.join()
    return results


def _received(connections: Sequence[Connection]) -> list[Any]:
    """The results of one job in each process. Where one fails the others lose the connection: all errors are shown."""
    received = [connection.recv() for connection in connections]
    errors = [result for result in received if isinstance(result, str)]
    assert not errors, "\n".join(errors)
    return [result for (result,) in received]


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _work(connection: Connection, ports: Sequence[int], rank: int, size: int, jobs: Sequence[Job]) -> None:
    distributed.TIMEOUT = timedelta(seconds=60)
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "GLOO_SOCKET_IFNAME": "lo"}
    for port, job in zip(ports, jobs, strict=True):
        os.environ["MASTER_PORT"] = str(port)
        try:
            if job.device == "cuda":
                torch.cuda.set_device(rank)
            with distributed.process_group(
                distributed.ProcessInfo(rank, size, rank), job.device, job.shard_model
            ):
                result = job.function(*job.arguments)
            connection.send((result,))
        except BaseException:
            connection.send(traceback.format_exc())
            return


TRAINING = Training(
    learning_rate=1e-2, head_rate=3.0, epochs=2, rows_per_step=6, max_tokens=150, warmup_steps=2
)
VOTES = 10
"""Number of votes: the last step of an epoch has one, so one of two processes has no row in it."""

Trained = tuple[list[float], dict[str, np.ndarray], np.ndarray]


def train(
    base: Path, folder: Path, precision: str = "fp32", stop_after: int = -1, device: str = "cpu"
) -> Trained:
    """Losses, adapters and head after a training, and logits of other votes."""
    rank = 16 if device == "cuda" else 4  # the least that the kernels take
    ours = load_adapted(base, Lora(rank=rank, alpha=2 * rank, dropout=0.0), None, precision, device)
    seen = [0]
    runtime = Runtime(
        device,
        folder,
        train_tokens=200,
        report=lambda phase, done, *_, **__: seen.append(done),
        should_stop=lambda: seen[-1] == stop_after,
    )
    losses = fit(ours, votes(VOTES), Prompt(), TRAINING, runtime, seed=5)
    others = tokenize(votes(9, seed=3), ours.tokenizer, Prompt())
    z_RC = score(ours, others, both_orders(np.arange(9)), 150, 200, lambda *_, **__: None)
    weights = {name: tensor.numpy() for name, tensor in adapter_state(ours.model, with_head=True).items()}
    return losses, weights, z_RC


def is_interrupted(
    base: Path, folder: Path, stop_after: int, precision: str = "fp32", device: str = "cpu"
) -> bool:
    """Train; True if it was interrupted after so many steps."""
    try:
        train(base, folder, precision, stop_after, device)
    except Interrupted:
        return True
    return False


def kernel_check_parts(base: Path, kind: str) -> list[Deviation]:
    """The parts compared by the kernel check, for correct kernels."""
    torch.manual_seed(0)
    ours = kernel_model(base, kind)
    ours.model.train()
    documents = [np.arange(length, dtype=np.int32) for length in (60, 40, 9)]
    with mock.patch("tiebreak.model.fast.flash_attention.flash", reference_kernel()):
        return list(compare_layers(ours, documents, 128, training=True))


def short_of_memory(base: Path, folder: Path, short: int, number: int) -> Trained:
    """`train`, where the process `short` has too little memory for its forward of that number."""
    forward, seen = Classifier.logits, [0]

    def logits(self: Classifier, batch: Packed) -> torch.Tensor:
        seen[0] += 1
        if distributed.rank() == short and seen[0] == number:
            raise torch.cuda.OutOfMemoryError("out of memory")
        return forward(self, batch)

    with mock.patch.object(Classifier, "logits", logits):
        return train(base, folder)


def scored_ids(base: Path, folder: Path) -> list[str]:
    """The ids of logits scored in parts by processes that do not see each other's files."""
    ours = load(base)
    ours.head_trained = True
    table = splits.tag_splits({"lockbox": votes(10)})
    runtime = Runtime("cpu", folder / str(distributed.rank()))
    with mock.patch.object(scoring_parts, "VOTES_PER_PART", 4):
        logits = scoring_parts.score_in_parts(ours, table, Prompt(), 150, "m", 1, runtime)
    ids: list[str] = logits["id"].to_pylist()
    return ids


def assert_same_teacher(one: Path, other: Path) -> None:
    """Compare two artifacts of `teach`, up to the summation order of fp32 in Adam's steps."""
    weights = load_file(other / "adapter" / "adapter_model.safetensors")
    for name, weight in load_file(one / "adapter" / "adapter_model.safetensors").items():
        np.testing.assert_allclose(weights[name], weight, atol=2e-4, rtol=1e-3, err_msg=name)
    curves = [json.loads((folder / "curve.json").read_text()) for folder in (one, other)]
    np.testing.assert_allclose(curves[0], curves[1], atol=2e-5, rtol=1e-4)
