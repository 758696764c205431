"""Replacement of a decoder's linear layers by fused ones."""

from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from tiebreak.model.fast.fused_attention import fuse_attentions
from tiebreak.model.fast.fused_linears import FusedLinear, Kind, Member
from tiebreak.model.fast.fused_mlp import fuse_mlps
from tiebreak.recipe.models import Lora

GROUPS = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))
"""Groups of layers that read the same input, in the order in which decoders call them."""


def fuse(
    model: PreTrainedModel,
    kind: Kind,
    dtype: torch.dtype,
    device: str,
    lora: Lora | None,
    seed: int,
    linear: type[nn.Module] = nn.Linear,
) -> None:
    """Replace the decoder's layers of a type by fused ones, in place, with their weights.

    Weights on the meta device are left for `FusedLinear.fill`. The score head is no part of the decoder.
    """
    generator = torch.Generator().manual_seed(seed)
    for path, parent in list(model.model.named_modules(prefix="model")):
        linears = {name: child for name, child in parent.named_children() if isinstance(child, linear)}
        while linears:
            first = next(iter(linears))
            group = next((g for g in GROUPS if g[0] == first and set(g) <= set(linears)), (first,))
            layers: tuple[Any, ...] = tuple(linears.pop(name) for name in group)
            stack = FusedLinear(
                tuple(f"{path}.{name}" for name in group), layers, kind, dtype, device, lora, generator
            )
            for number, (name, layer) in enumerate(zip(group, layers, strict=True)):
                if not layer.weight.is_meta:
                    stack.fill(number, layer.weight, layer.bias)
                setattr(parent, name, Member(stack, number))
    fuse_mlps(model)
    fuse_attentions(model)
