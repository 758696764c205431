"""Reference attention kernels in torch, correct or with one error each, and models that run on them."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tiebreak import distributed
from tiebreak.model import classifier as loading
from tiebreak.model import streaming_loader
from tiebreak.model.classifier import Classifier
from tiebreak.model.fast.fsdp import shard
from tiebreak.model.lora import adapted_layers
from tiebreak.recipe.models import Lora

LORA = Lora(rank=16, alpha=32, dropout=0.1)
Kernel = Callable[..., tuple[Tensor, None]]


def reference_kernel(
    leak: int = 0, ahead: int = 0, capped: bool = True, scaled: float = 1.0, whole_gradient: bool = True
) -> Kernel:
    """Attention over tiles in fp32 with rounded inputs and outputs.

    leak: tokens of the document before that a document attends to. ahead: future tokens that a token attends to.
    """

    def attend(
        q_THE: Tensor, k_TKE: Tensor, v_TKE: Tensor, queries_N5: Tensor, keys_N5: Tensor,
        scale: float, cap: float, window: int,
    ) -> tuple[Tensor, None]:  # fmt: skip
        seen_TT = torch.zeros(len(q_THE), len(q_THE), dtype=torch.bool)
        for first, stop, own, prefix, prefix_stop in queries_N5.tolist():
            for row in range(first, min(first + 128, stop)):
                seen = [*range(prefix, prefix_stop), *range(max(0, own - leak), min(row + 1 + ahead, stop))]
                seen_TT[row, seen[-window:]] = True
        groups = q_THE.shape[1] // k_TKE.shape[1]
        q, k, v = q_THE.float(), k_TKE.float(), v_TKE.float()
        k, v = k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1)
        scores = torch.einsum("qhe,khe->hqk", q, k) * scale * scaled
        scores = torch.tanh(scores / cap) * cap if cap and capped else scores
        scores = scores.masked_fill(~seen_TT, -torch.inf)
        total = scores.logsumexp(-1, keepdim=True)
        p = (scores - (total if whole_gradient else total.detach())).exp()
        return torch.einsum("hqk,khe->qhe", p, v).to(q_THE.dtype), None

    return attend


def kernel_model(folder: Path, kind: str = "dense", dtype: torch.dtype = torch.bfloat16) -> Classifier:
    """A tiny model in a GPU's compute type, to run on kernels; sharded where processes share it."""
    if kind == "nf4":
        pytest.importorskip("bitsandbytes")
    model, _ = streaming_loader.load(folder, loading._config(folder), dtype, "cpu", kind, LORA, seed=3)
    ours = loading._classifier(folder, model, False, "cpu", 3)
    for _, layer in adapted_layers(model):
        layer.lora_B.data.normal_(std=0.05)
    if distributed.is_sharded():
        shard(model, "cpu")
    ours.fixed = True
    return ours
