"""Training loss: cross-entropy on labels, and distillation from teachers.

Dimension letters: R rows (a vote in one order), M teachers, C classes.
"""

from dataclasses import dataclass
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

PerTeacher = float | tuple[float, ...]


@dataclass(frozen=True)
class Targets:
    """Targets of the rows of a batch, in the order their answers are shown.

    A row without a label (NaN) has teachers as its only targets.
    """

    labels_RC: Tensor
    teachers_RMC: Tensor | None = None  # raw logits
    weights_R: Tensor | None = None

    def to(self, device: str) -> "Targets":
        moved = (None if x is None else x.to(device, non_blocking=True) for x in vars(self).values())
        return Targets(*moved)  # type: ignore[arg-type]

    def padded(self, rows: int) -> "Targets":
        """The targets of so many rows, those added without weight."""
        weights_R = torch.ones_like(self.labels_RC[:, 0]) if self.weights_R is None else self.weights_R
        added = (0, rows - len(weights_R))
        teachers_RMC = None if self.teachers_RMC is None else F.pad(self.teachers_RMC, (0, 0, 0, 0, *added))
        return Targets(F.pad(self.labels_RC, (0, 0, *added)), teachers_RMC, F.pad(weights_R, added))

    def tensors(self) -> tuple[Tensor, ...]:
        """Labels, weights, and teachers if there are any; `of_tensors` is its inverse."""
        assert self.weights_R is not None
        teachers = () if self.teachers_RMC is None else (self.teachers_RMC,)
        return self.labels_RC, self.weights_R, *teachers

    @staticmethod
    def of_tensors(labels_RC: Tensor, weights_R: Tensor, teachers_RMC: Tensor | None = None) -> "Targets":
        return Targets(labels_RC, teachers_RMC, weights_R)

    def pinned(self) -> "Targets":
        """The targets in page-locked memory, from which copies to a GPU are asynchronous."""
        return Targets(*(None if x is None else x.pin_memory() for x in vars(self).values()))  # type: ignore[arg-type]


@dataclass(frozen=True)
class Loss:
    """Sum over rows of label CE + sum over teachers of [kl KL(teacher_T || student_T) + cosine (1 - cos)].

    CE takes soft labels, smoothed towards thirds (Szegedy et al. 2015, arXiv:1512.00567). KL and the cosine
    compare softmax(logits / T) (Hinton et al. 2015, arXiv:1503.02531, without its factor T^2, which belongs
    in `kl`). kl, cosine and temperature are one number, or one for each teacher.

    The published loss has two teachers and every weight 1/5.
    """

    label: float = 1.0
    kl: PerTeacher = 0.0
    cosine: PerTeacher = 0.0
    temperature: PerTeacher = 1.0
    smoothing: float = 0.0

    def __call__(self, logits_RC: Tensor, targets: Targets) -> Tensor:
        """The loss summed over rows, each times its weight: a scalar."""
        loss_R = self.label * self._label_loss(logits_RC, targets.labels_RC)
        if targets.teachers_RMC is not None:
            loss_R = loss_R + self._teacher_loss(logits_RC, targets.teachers_RMC)
        return (loss_R if targets.weights_R is None else loss_R * targets.weights_R).sum()

    def _label_loss(self, logits_RC: Tensor, labels_RC: Tensor) -> Tensor:
        labels_RC = labels_RC.lerp(torch.full_like(labels_RC, 1 / 3), self.smoothing)
        return F.cross_entropy(logits_RC, labels_RC.nan_to_num(0.0), reduction="none")

    def _teacher_loss(self, logits_RC: Tensor, teachers_RMC: Tensor) -> Tensor:
        kl_M, cosine_M, temperature_M = (
            _per_teacher(x, teachers_RMC.shape[1], logits_RC.device)
            for x in (self.kl, self.cosine, self.temperature)
        )
        student_RMC = logits_RC[:, None] / temperature_M[:, None]
        teacher_RMC = teachers_RMC / temperature_M[:, None]
        p_student_RMC, p_teacher_RMC = student_RMC.softmax(-1), teacher_RMC.softmax(-1)
        kl_RM = (p_teacher_RMC * (teacher_RMC.log_softmax(-1) - student_RMC.log_softmax(-1))).sum(-1)
        cosine_RM = F.cosine_similarity(p_student_RMC, p_teacher_RMC, dim=-1)
        return (kl_M * kl_RM + cosine_M * (1 - cosine_RM)).sum(-1)


@cache
def _per_teacher(value: PerTeacher, teachers: int, device: torch.device) -> Tensor:
    """(M,), copied to the device once: a copy makes the host wait."""
    return torch.tensor(value, device=device).expand(teachers)
