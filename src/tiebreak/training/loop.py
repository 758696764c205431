"""Training loop of steps 1, 3 and 5; rows and loss are passed in.

All randomness is a function of the seed and the step, so that a resumed training ends with the same weights as an
uninterrupted one.
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
from tiebreak.errors import Interrupted, TiebreakError
from tiebreak.hardware.memory_model import default_train_tokens
from tiebreak.model.classifier import Classifier
from tiebreak.model.fast.compile import ToHost
from tiebreak.model.fast.kernel_check import check
from tiebreak.model.lora import HEAD
from tiebreak.model.memory_budget import halve_budget
from tiebreak.recipe.schema import Training
from tiebreak.runtime import TRAIN_TOKENS, Runtime
from tiebreak.tokens.packing import PARTS, TILE
from tiebreak.tokens.prefetch import prefetch
from tiebreak.training import checkpoint
from tiebreak.training.dry_run import fit_to_memory
from tiebreak.training.gradients import Gradients
from tiebreak.training.load_balance import equalize_batch_counts, rows_of_rank
from tiebreak.training.losses import Loss
from tiebreak.training.rows import Batch, Rows, TrainingRows, optimizer_steps

log = logging.getLogger(__name__)

RANK_SEED_STRIDE = 1_000_003
"""Distance between the seeds of two processes."""


def train(
    classifier: Classifier, rows: TrainingRows, loss: Loss, training: Training, runtime: Runtime, seed: int
) -> list[float]:
    """Train adapters and score head in place; returns the mean loss per row of each optimizer step.

    Resumes from the newest checkpoint in `runtime.scratch`; the last step saves one too, so that a task stopped later
    restores the same weights. Raises Interrupted, after a checkpoint, when the runtime asks
    to stop, and TiebreakError when the loss is not finite.
    """
    steps = optimizer_steps(len(rows.votes), training, seed)
    weights = classifier.trainable()
    optimizer = _optimizer(weights, training)
    # 16-bit floats without bf16's range lose small gradients; disabled, the scaler passes everything through
    scaler = torch.amp.GradScaler(
        classifier.model.device.type, enabled=classifier.model.dtype == torch.float16
    )
    progress = checkpoint.restore(runtime.scratch, weights, optimizer)
    if not distributed.all_equal(progress.step):
        raise TiebreakError(
            f"processes find different checkpoints in {runtime.scratch}; is it one folder for all?"
        )
    if progress.scaler:
        scaler.load_state_dict(progress.scaler)
    classifier.model.train()
    tokens = _budget(classifier, rows, steps, runtime)
    check(classifier, tokens, training=True)
    if classifier.on_gpu:
        tokens = fit_to_memory(classifier, tokens, rows.longest(), resumed=progress.step > 0)
    curve = _LossCurve(progress.losses, len(steps), runtime)
    gradients = Gradients(classifier, loss, scaler)
    saved = time.monotonic()
    began = saved - progress.seconds
    left = [] if _is_over(progress.seconds, training) else steps[progress.step :]
    prepared = _prepare(classifier, rows, left, tokens)
    for step, members in enumerate(left, progress.step):
        rate = learning_rate(step, len(steps), training)
        while True:
            torch.manual_seed(seed + step + RANK_SEED_STRIDE * distributed.rank())
            batches = equalize_batch_counts(
                next(prepared), rows.batches(members[:1], tokens, classifier.fixed)
            )
            total = gradients.add(batches, len(members))
            if total is not None:
                break
            gradients.forget(optimizer)
            tokens = halve_budget(tokens, rows.longest(), "train_tokens")
            prepared = _prepare(classifier, rows, steps[step:], tokens)
        _update(optimizer, scaler, total, rate, training)
        gradients.zero(optimizer)
        curve.add(total, rate)
        curve.read(waiting=1 if classifier.on_gpu else 0)
        seconds, stop = distributed.all_reduce_max(time.monotonic() - began, runtime.should_stop())
        is_over = _is_over(seconds, training)
        is_last = is_over or step + 1 == len(steps)
        due = stop or is_last or time.monotonic() - saved > 60 * runtime.checkpoint_minutes
        if due and distributed.is_main_process():
            curve.read()
            progress = checkpoint.Progress(step + 1, curve.losses, seconds, scaler.state_dict())
            checkpoint.save(runtime.scratch, progress, weights, optimizer)
            saved = time.monotonic()
        if stop:
            distributed.barrier()  # the checkpoint is complete before any process ends
            raise Interrupted(f"stopped after step {step + 1} of {len(steps)}; a checkpoint is saved")
        if is_over:
            log.warning("max_hours is over: training ends after step %d of %d", step + 1, len(steps))
            break
    curve.read()
    classifier.model.eval()
    classifier.head_trained = True
    return curve.losses


def _budget(classifier: Classifier, rows: TrainingRows, steps: Sequence[Rows], runtime: Runtime) -> int:
    """The tokens of a forward: the recipe's, or else by the model's size; on the kernels no more than a step has."""
    if not classifier.fixed:
        return runtime.train_tokens or TRAIN_TOKENS
    lengths_N = rows.votes.frame_tokens + rows.votes.kept_lengths(rows.max_tokens).sum(axis=1)
    longest = max(int(lengths_N[members[:, 0]].sum()) for members in steps)
    whole_parts = -(-longest // (PARTS * TILE)) * PARTS * TILE
    return min(runtime.train_tokens or default_train_tokens(classifier.parameters), whole_parts)


def _is_over(seconds: float, training: Training) -> bool:
    """True once `max_hours` are used up."""
    return training.max_hours is not None and seconds > 3600 * training.max_hours


class _LossCurve:
    """Losses by step. On a GPU each is read while the next step runs, so that neither waits."""

    def __init__(self, losses: list[float], steps: int, runtime: Runtime) -> None:
        self.losses, self._steps, self._runtime = list(losses), steps, runtime
        self._pending: deque[tuple[ToHost, float]] = deque()

    def add(self, total: Tensor, rate: float) -> None:
        self._pending.append((ToHost(total), rate))

    def read(self, waiting: int = 0) -> None:
        """Read and report all but the last `waiting`. Raises TiebreakError if one is not finite."""
        while len(self._pending) > waiting:
            total, rate = self._pending.popleft()
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
    """The batches of each step; for a GPU prefetched during the step before, in page-locked memory."""
    length = partial(rows.votes.length, max_tokens=rows.max_tokens)
    own = (rows_of_rank(members, length, distributed.rank(), distributed.world_size()) for members in steps)
    prepared = (list(rows.batches(members, tokens, classifier.fixed)) for members in own)
    if not classifier.on_gpu:
        return prepared
    return prefetch(
        [(packed.pinned(), targets.pinned()) for packed, targets in batches] for batches in prepared
    )


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
    """Learning rate: linear warm-up, then a cosine to zero at the last step (Loshchilov & Hutter, arXiv:1608.03983)."""
    warmup = min(training.warmup_steps, steps // 2)
    if step < warmup:
        return training.learning_rate * (step + 1) / warmup
    return training.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def _update(
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    total: Tensor,
    rate: float,
    training: Training,
) -> None:
    """Take the optimizer step after an all-reduce of gradients and loss, in place."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    _all_reduce(parameters, total)
    scaler.unscale_(optimizer)
    torch.nn.utils.clip_grad_norm_(parameters, training.gradient_clip)
    for group in optimizer.param_groups:
        group["lr"] = rate * group["multiple"]
    scaler.step(optimizer)
    for p in parameters:  # the fused optimizer does not mark them as changed
        torch.autograd.graph.increment_version(p)
    scaler.update()


def _all_reduce(parameters: Sequence[nn.Parameter], total: Tensor) -> None:
    """Sum gradients and loss over all processes, each of which has those of its rows."""
    if distributed.world_size() == 1:
        return
    for p in parameters:
        if p.grad is None:
            p.grad = torch.zeros_like(p)
    distributed.all_reduce_sum([total, *(p.grad for p in parameters if p.grad is not None)])
