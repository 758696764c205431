"""What training minimises: cross-entropy on labels, and agreement with teachers.

Dimension letters: R rows (a vote in one order), M teachers, C classes.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Targets:
    """What the rows of a batch should become, in the order their answers were shown."""

    labels_RC: Tensor
    teachers_RMC: Tensor | None = None  # raw logits


@dataclass(frozen=True)
class Loss:
    """sum over rows of label CE + sum over teachers of [kl KL(teacher_T || student_T) + cosine (1 - cos)].

    CE takes soft labels; KL and the cosine compare softmax(logits / T) (Hinton et al. 2015,
    arXiv:1503.02531, without its factor T^2, which belongs into `kl`). The published loss has two teachers
    and every weight 1/5.
    """

    label: float = 1.0
    kl: float = 0.0
    cosine: float = 0.0
    temperature: float = 1.0

    def __call__(self, logits_RC: Tensor, targets: Targets) -> Tensor:
        """The loss summed over rows, a scalar."""
        total = self.label * F.cross_entropy(logits_RC, targets.labels_RC, reduction="sum")
        if targets.teachers_RMC is None or not (self.kl or self.cosine):
            return total
        student_RMC = (logits_RC / self.temperature)[:, None].expand_as(targets.teachers_RMC)
        teacher_RMC = targets.teachers_RMC / self.temperature
        p_student_RMC, p_teacher_RMC = student_RMC.softmax(-1), teacher_RMC.softmax(-1)
        kl_RM = (p_teacher_RMC * (teacher_RMC.log_softmax(-1) - student_RMC.log_softmax(-1))).sum(-1)
        cosine_RM = F.cosine_similarity(p_student_RMC, p_teacher_RMC, dim=-1)
        return total + (self.kl * kl_RM + self.cosine * (1 - cosine_RM)).sum()


def swap_classes(x_xC: Tensor) -> Tensor:
    """Exchange the classes a and b: (..., 3) -> (..., 3)."""
    return x_xC[..., torch.tensor([1, 0, 2], device=x_xC.device)]
