"""Checkpoints of one training: atomic, verified, the last two kept."""

import json
import logging
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from tiebreak import json_files
from tiebreak.errors import TiebreakError
from tiebreak.hashes import file_digest
from tiebreak.output import replacing_folder, write_atomically

log = logging.getLogger(__name__)
KEEP_LAST = 2


@dataclass
class Progress:
    """Training progress: optimizer steps done, the mean loss of each, and the seconds they took.

    scaler: the state of the loss scale of an fp16 training, empty for others.
    """

    step: int
    losses: list[float]
    seconds: float = 0.0
    scaler: dict[str, float] = field(default_factory=dict)


def save(
    folder: Path, progress: Progress, weights: Mapping[str, nn.Parameter], optimizer: torch.optim.Optimizer
) -> None:
    """Write a checkpoint atomically, then delete all but the last two."""
    target = folder / f"step-{progress.step:08d}"
    tensors = {f"weight/{name}": p.detach().cpu() for name, p in weights.items()}
    for name, p in weights.items():
        for key, value in optimizer.state[p].items():
            tensors[f"{key}/{name}"] = value.detach().cpu()
    with replacing_folder(target) as partial:
        save_file(
            {name: tensor.contiguous() for name, tensor in tensors.items()}, partial / "state.safetensors"
        )
        record = {
            "step": progress.step,
            "losses": progress.losses,
            "seconds": progress.seconds,
            "scaler": progress.scaler,
            "sha256": file_digest(partial / "state.safetensors"),
        }
        write_atomically(partial / "progress.json", json.dumps(record))
    checkpoints = sorted(folder.glob("step-*"))
    earlier = checkpoints[
        : checkpoints.index(target) + 1
    ]  # a later one was damaged when this training resumed
    for old in set(checkpoints) - set(earlier[-KEEP_LAST:]):
        shutil.rmtree(old)


def restore(folder: Path, weights: Mapping[str, nn.Parameter], optimizer: torch.optim.Optimizer) -> Progress:
    """Load the newest undamaged checkpoint; a damaged one is skipped with a warning."""
    for candidate in sorted(folder.glob("step-*"), reverse=True):
        try:
            record = json_files.read_object(candidate / "progress.json", "it is left out")
            if file_digest(candidate / "state.safetensors") != record["sha256"]:
                raise ValueError("its hash differs from the one it was written with")
            tensors = load_file(candidate / "state.safetensors")
            _load_tensors(tensors, weights, optimizer)
        except (OSError, ValueError, KeyError, TiebreakError) as error:
            log.warning("checkpoint %s is damaged (%s); trying the one before", candidate, error)
            continue
        return Progress(record["step"], record["losses"], record["seconds"], record["scaler"])
    return Progress(0, [])


def _load_tensors(
    tensors: Mapping[str, Tensor], weights: Mapping[str, nn.Parameter], optimizer: torch.optim.Optimizer
) -> None:
    if missing := {f"weight/{name}" for name in weights} - set(tensors):
        raise KeyError(f"no {sorted(missing)[0]}")
    with torch.no_grad():
        for name, p in weights.items():
            p.copy_(tensors[f"weight/{name}"])
            optimizer.state[p] = {
                key: tensors[f"{key}/{name}"].to(p.device)
                for key in ("step", "exp_avg", "exp_avg_sq")
                if f"{key}/{name}" in tensors
            }
