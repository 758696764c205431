"""The one training loop, for steps 1, 3 and 5; rows and loss are passed in.

Everything random is a function of the seed and the step, so that a training that was stopped and resumed
ends with the same weights as one that was not.
"""

import logging
import math
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from tiebreak import distributed
from tiebreak.data.ahead import ahead
from tiebreak.errors import Interrupted, TiebreakError
from tiebreak.model.budget import less, too_much
from tiebreak.model.check import check
from tiebreak.model.classifier import Classifier
from tiebreak.model.gpu import ToHost
from tiebreak.model.lora import HEAD
from tiebreak.recipe import Training
from tiebreak.runtime import Runtime
from tiebreak.train import checkpoint
from tiebreak.train.dry_run import settle
from tiebreak.train.losses import Loss
from tiebreak.train.rows import Batch, Rows, TrainingRows, optimizer_steps
from tiebreak.train.shares import level, share

log = logging.getLogger(__name__)

_APART = 1_000_003
"""Between the seeds of two processes."""


def train(
    classifier: Classifier, rows: TrainingRows, loss: Loss, training: Training, runtime: Runtime, seed: int
) -> list[float]:
    """Train adapters and score head in place; returns the mean loss a row of each optimizer step.

    Goes on from the newest checkpoint in `runtime.scratch`; the last step saves one too, so that a task which
    is stopped later has the same weights again. Raises Interrupted, after a checkpoint, when the runtime asks
    to stop, and TiebreakError when the loss is no longer a number.
    """
    steps = optimizer_steps(len(rows.votes), training, seed)
    weights = classifier.trainable()
    optimizer = _optimizer(weights, training)
    # 16-bit floats without bf16's range lose small gradients; disabled, the scaler passes everything through
    scaler = torch.amp.GradScaler(
        classifier.model.device.type, enabled=classifier.model.dtype == torch.float16
    )
    progress = checkpoint.restore(runtime.scratch, weights, optimizer)
    if not distributed.alike(progress.step):
        raise TiebreakError(
            f"processes find different checkpoints in {runtime.scratch}; is it one folder for all?"
        )
    if progress.scaler:
        scaler.load_state_dict(progress.scaler)
    classifier.model.train()
    tokens = runtime.train_tokens
    check(classifier, tokens, training=True)
    if classifier.on_gpu:
        tokens = settle(classifier, tokens, rows.longest(), resumed=progress.step > 0)
    curve = _Curve(progress.losses, len(steps), runtime)
    saved = time.monotonic()
    began = saved - progress.seconds
    left = [] if _is_over(progress.seconds, training) else steps[progress.step :]
    prepared = _prepare(classifier, rows, left, tokens)
    for step, members in enumerate(left, progress.step):
        rate = learning_rate(step, len(steps), training)
        while True:
            torch.manual_seed(seed + step + _APART * distributed.rank())
            batches = level(next(prepared), rows.batches(members[:1], tokens, classifier.fixed))
            total = _gradients(classifier, batches, len(members), loss, scaler)
            if total is not None:
                break
            optimizer.zero_grad(set_to_none=True)
            torch.cuda.empty_cache()
            tokens = less(tokens, rows.longest(), "train_tokens")
            prepared = _prepare(classifier, rows, steps[step:], tokens)
        _update(optimizer, scaler, total, rate, training)
        curve.add(total, rate)
        curve.read(waiting=1 if classifier.on_gpu else 0)
        seconds, stop = distributed.most(time.monotonic() - began, runtime.should_stop())
        is_over = _is_over(seconds, training)
        is_last = is_over or step + 1 == len(steps)
        due = stop or is_last or time.monotonic() - saved > 60 * runtime.checkpoint_minutes
        if due and distributed.leads():
            curve.read()
            progress = checkpoint.Progress(step + 1, curve.losses, seconds, scaler.state_dict())
            checkpoint.save(runtime.scratch, progress, weights, optimizer)
            saved = time.monotonic()
        if stop:
            distributed.meet()  # the checkpoint is whole before any process ends
            raise Interrupted(f"stopped after step {step + 1} of {len(steps)}; a checkpoint is saved")
        if is_over:
            log.warning("max_hours is over: training ends after step %d of %d", step + 1, len(steps))
            break
    curve.read()
    classifier.model.eval()
    classifier.head_trained = True
    return curve.losses


def _is_over(seconds: float, training: Training) -> bool:
    """Has the training had its time?"""
    return training.max_hours is not None and seconds > 3600 * training.max_hours


class _Curve:
    """The loss of each step. On a GPU it is read while the next step runs, so that neither waits."""

    def __init__(self, losses: list[float], steps: int, runtime: Runtime) -> None:
        self.losses, self._steps, self._runtime = list(losses), steps, runtime
        self._coming: deque[tuple[ToHost, float]] = deque()

    def add(self, total: Tensor, rate: float) -> None:
        self._coming.append((ToHost(total), rate))

    def read(self, waiting: int = 0) -> None:
        """Read and report all but the last `waiting`. Raises TiebreakError if one is no number."""
        while len(self._coming) > waiting:
            total, rate = self._coming.popleft()
            value = total.get().item()
            if not math.isfinite(value):
                raise TiebreakError(
                    f"the loss became {value} at learning rate {rate:.2g}; lower it, or choose precision bf16 "
                    "or fp32"
                )
            self.losses.append(value)
            done = len(self.losses)
            self._runtime.report("training", done, self._steps, "steps", loss=value, learning_rate=rate)


def _prepare(
    classifier: Classifier, rows: TrainingRows, steps: Sequence[Rows], tokens: int
) -> Iterator[list[Batch]]:
    """The batches of each step; for a GPU made while it works on the step before, in page-locked memory."""
    length = partial(rows.votes.length, max_tokens=rows.max_tokens)
    mine = (share(members, length, distributed.rank(), distributed.size()) for members in steps)
    made = (list(rows.batches(members, tokens, classifier.fixed)) for members in mine)
    if not classifier.on_gpu:
        return made
    return ahead([(packed.pinned(), targets.pinned()) for packed, targets in batches] for batches in made)


def _optimizer(weights: Mapping[str, nn.Parameter], training: Training) -> torch.optim.Optimizer:
    """AdamW over the adapters and, at a multiple of their learning rate, the score head."""
    adapters = [p for name, p in weights.items() if name != HEAD]
    groups = [
        {"params": adapters, "multiple": 1.0},
        {"params": [weights[HEAD]], "multiple": training.head_rate},
    ]
    return torch.optim.AdamW(
        groups, lr=training.learning_rate, weight_decay=training.weight_decay, fused=True
    )


def learning_rate(step: int, steps: int, training: Training) -> float:
    """Linear warm-up, then a cosine down to zero at the last step (Loshchilov & Hutter, arXiv:1608.03983)."""
    warmup = min(training.warmup_steps, steps // 2)
    if step < warmup:
        return training.learning_rate * (step + 1) / warmup
    return training.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def _gradients(
    classifier: Classifier,
    batches: Sequence[Batch],
    count: int,
    loss: Loss,
    scaler: torch.amp.GradScaler,
) -> Tensor | None:
    """Add up this process's gradients of a step, and its loss: a mean over the step's `count` rows, however batched.

    None where any process has too little memory for one of its forwards. Raises TiebreakError for that where weights
    are spread: the others then wait in the middle of a forward.
    """
    total = torch.zeros((), device=classifier.device)
    scaler.scale(total)  # a process without rows has to know the scale too
    fits = True
    try:
        for packed, targets in batches:
            batch, wanted = packed.to(classifier.device), targets.to(classifier.device)
            value = loss(classifier.logits(batch), wanted) / count
            scaler.scale(value).backward()  # type: ignore[no-untyped-call]
            total += value.detach()
    except torch.cuda.OutOfMemoryError:
        if distributed.shards():
            raise too_much(max(len(packed.ids_T) for packed, _ in batches), "train_tokens") from None
        fits = False
    return None if distributed.most(not fits)[0] else total


def _update(
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    total: Tensor,
    rate: float,
    training: Training,
) -> None:
    """Sum gradients and loss over all processes, in place, and take the optimizer's step."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    _add_up(parameters, total)
    scaler.unscale_(optimizer)
    torch.nn.utils.clip_grad_norm_(parameters, training.gradient_clip)
    for group in optimizer.param_groups:
        group["lr"] = rate * group["multiple"]
    scaler.step(optimizer)
    for p in parameters:  # the fused optimizer does not say that it changed them
        torch.autograd.graph.increment_version(p)
    scaler.update()
    optimizer.zero_grad(set_to_none=True)


def _add_up(parameters: Sequence[nn.Parameter], total: Tensor) -> None:
    """Gradients and loss over all processes, each of which has those of its rows."""
    if distributed.size() == 1:
        return
    for p in parameters:
        if p.grad is None:
            p.grad = torch.zeros_like(p)
    distributed.add_up([total, *(p.grad for p in parameters if p.grad is not None)])
