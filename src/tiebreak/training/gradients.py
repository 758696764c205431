"""Gradients of a batch's loss, added to those of the weights; on a GPU small models replay CUDA graphs.

Dimension letters: D documents of a padded batch, M teachers, C classes.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from tiebreak import distributed
from tiebreak.model.classifier import Classifier
from tiebreak.model.fast.graphs import Graphs
from tiebreak.model.memory_budget import out_of_memory_error
from tiebreak.tokens.packing import Packed
from tiebreak.training.losses import Loss, Targets
from tiebreak.training.rows import Batch

PACKED = 5
"""Tensors of a packed batch."""


class Gradients:
    """The backward of a loss. scaler: for 16-bit floats without bf16's range, which lose small gradients; may be disabled."""

    def __init__(self, classifier: Classifier, loss: Loss, scaler: torch.amp.GradScaler) -> None:
        self._classifier, self._loss, self._scaler = classifier, loss, scaler
        self._graphs = Graphs(self._of_tensors)
        self._weights = list(classifier.trainable().values())

    def add(self, batches: Sequence[Batch], count: int) -> Tensor | None:
        """Accumulate this process's gradients of a step and return its loss, a mean over the step's `count` rows.

        None if any process runs out of memory in a forward. With sharded weights that raises TiebreakError, since the
        other processes wait within their forward.
        """
        total = torch.zeros((), device=self._classifier.device)
        self._scaler.scale(total)  # a process without rows needs the scale too
        fits = True
        try:
            for batch in batches:
                total += self._add(*batch, count)
        except torch.cuda.OutOfMemoryError:
            if distributed.is_sharded():
                raise out_of_memory_error(
                    max(len(packed.ids_T) for packed, _ in batches), "train_tokens"
                ) from None
            fits = False
        return None if distributed.all_reduce_max(not fits)[0] else total

    def zero(self, optimizer: torch.optim.Optimizer) -> None:
        """Remove the gradients; where graphs add to them, they are set to zero in place."""
        optimizer.zero_grad(set_to_none=not self._graphs.recorded)

    def forget(self, optimizer: torch.optim.Optimizer) -> None:
        """Remove the gradients and all graphs, and free their memory."""
        self._graphs.forget()
        optimizer.zero_grad(set_to_none=True)
        torch.cuda.empty_cache()

    def _add(self, packed: Packed, targets: Targets, count: int) -> Tensor:
        classifier = self._classifier
        batch, on_device = packed.to(classifier.device), targets.to(classifier.device)
        if not classifier.is_graphed(len(packed.ids_T)) or self._scaler.is_enabled():
            return self._backward(classifier.logits(batch), on_device, count)
        for p in self._weights:  # a backward recorded without them would replace gradients, not add to them
            if p.grad is None:
                p.grad = torch.zeros_like(p)
        state = classifier.prepare(batch)
        padded = on_device.padded(len(batch.ends_D))
        rows = torch.full((), count, dtype=torch.float32, device=classifier.device)
        return self._graphs(*batch.tensors(), rows, *padded.tensors(), state=state)

    def _of_tensors(self, *tensors: Tensor) -> Tensor:
        """As `_backward`, for tensors of a fixed shape: those of the batch, the step's rows, and those of the targets."""
        logits_DC = self._classifier.logits_of_tensors(*tensors[:PACKED])
        return self._backward(logits_DC, Targets.of_tensors(*tensors[PACKED + 1 :]), tensors[PACKED])

    def _backward(self, logits_DC: Tensor, targets: Targets, count: int | Tensor) -> Tensor:
        value = self._loss(logits_DC, targets) / count
        self._scaler.scale(value).backward()  # type: ignore[no-untyped-call]
        return value.detach()
