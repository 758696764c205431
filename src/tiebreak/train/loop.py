"""The one training loop, for steps 1, 3 and 5; rows and loss are passed in.

Everything random is a function of the seed and the step, so that a training that was stopped and resumed
ends with the same weights as one that was not.
"""

import logging
import math
import time
from collections.abc import Mapping

import torch
from torch import nn

from tiebreak.errors import Interrupted, TiebreakError
from tiebreak.model.classifier import Classifier
from tiebreak.model.lora import HEAD
from tiebreak.recipe import Training
from tiebreak.runtime import Runtime
from tiebreak.train import checkpoint
from tiebreak.train.losses import Loss
from tiebreak.train.rows import Rows, TrainingRows, optimizer_steps

log = logging.getLogger(__name__)


def train(
    classifier: Classifier, rows: TrainingRows, loss: Loss, training: Training, runtime: Runtime, seed: int
) -> list[float]:
    """Train adapters and score head in place; returns the mean loss a row of each optimizer step.

    Goes on from the newest checkpoint in `runtime.scratch`. Raises Interrupted, after a checkpoint, when the
    runtime asks to stop, and TiebreakError when the loss is no longer a number.
    """
    steps = optimizer_steps(len(rows.votes), training, seed)
    weights = classifier.trainable()
    optimizer = _optimizer(weights, training)
    progress = checkpoint.restore(runtime.scratch, weights, optimizer)
    saved = time.monotonic()
    began = saved - progress.seconds
    classifier.model.train()
    for step in range(progress.step, len(steps)):
        rate = learning_rate(step, len(steps), training)
        torch.manual_seed(seed + step)
        value = _step(classifier, rows, steps[step], loss, optimizer, rate, training, runtime)
        seconds = time.monotonic() - began
        progress = checkpoint.Progress(step + 1, [*progress.losses, value], seconds)
        runtime.report("training", step + 1, len(steps), "steps", loss=value, learning_rate=rate)
        stop = runtime.should_stop()
        if stop or time.monotonic() - saved > 60 * runtime.checkpoint_minutes:
            checkpoint.save(runtime.scratch, progress, weights, optimizer)
            saved = time.monotonic()
        if stop:
            raise Interrupted(f"stopped after step {step + 1} of {len(steps)}; a checkpoint is saved")
        if training.max_hours and seconds > 3600 * training.max_hours:
            log.warning("max_hours is over: training ends after step %d of %d", step + 1, len(steps))
            break
    classifier.model.eval()
    classifier.head_trained = True
    return progress.losses


def _optimizer(weights: Mapping[str, nn.Parameter], training: Training) -> torch.optim.Optimizer:
    """AdamW over the adapters and, at a multiple of their learning rate, the score head."""
    adapters = [p for name, p in weights.items() if name != HEAD]
    groups = [
        {"params": adapters, "multiple": 1.0},
        {"params": [weights[HEAD]], "multiple": training.head_rate},
    ]
    return torch.optim.AdamW(groups, lr=training.learning_rate, weight_decay=training.weight_decay)


def learning_rate(step: int, steps: int, training: Training) -> float:
    """Linear warm-up, then a cosine down to zero at the last step (Loshchilov & Hutter, arXiv:1608.03983)."""
    warmup = min(training.warmup_steps, steps // 2)
    if step < warmup:
        return training.learning_rate * (step + 1) / warmup
    return training.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def _step(
    classifier: Classifier,
    rows: TrainingRows,
    members: Rows,
    loss: Loss,
    optimizer: torch.optim.Optimizer,
    rate: float,
    training: Training,
    runtime: Runtime,
) -> float:
    """One optimizer step; the loss is a mean over the rows of the whole step, however they are batched."""
    total = torch.zeros((), device=classifier.device)
    for packed, targets in rows.batches(members, runtime.train_tokens):
        batch, wanted = packed.to(classifier.device), targets.to(classifier.device)
        value = loss(classifier.logits(batch), wanted) / len(members)
        value.backward()  # type: ignore[no-untyped-call]
        total += value.detach()
    if not math.isfinite(mean := total.item()):
        raise TiebreakError(
            f"the loss became {mean} at learning rate {rate:.2g}; lower it, or choose precision bf16 or fp32"
        )
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    torch.nn.utils.clip_grad_norm_(parameters, training.gradient_clip)
    for group in optimizer.param_groups:
        group["lr"] = rate * group["multiple"]
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return mean
