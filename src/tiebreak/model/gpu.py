"""What runs a decoder fast on a GPU: whether its kernels suit, layers compiled once, activations recomputed.

Kernels need shapes that repeat, so batches are filled up to a few fixed sizes (`data.packing.batches`).
"""

import importlib.util
from contextlib import AbstractContextManager, nullcontext
from functools import partial

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedConfig, PreTrainedModel

from tiebreak.cards import Card
from tiebreak.model.lora import LoraLinear
from tiebreak.model.precision import card

HEAD_SIZES = (16, 32, 64, 128, 256)


def suits(on: Card, dtype: torch.dtype, config: PreTrainedConfig) -> bool:
    """Whether the attention kernel can run: Ampere or later, 16 bits, a head size that is a power of two."""
    text = config.get_text_config()
    head_size = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    return (
        on.capability >= (8, 0)
        and dtype in (torch.bfloat16, torch.float16)
        and head_size in HEAD_SIZES
        and importlib.util.find_spec("triton") is not None
    )


def speed_up(model: PreTrainedModel, device: str) -> bool:
    """Compile the layers where the kernels suit model and card; says whether batches then need fixed shapes."""
    fixed = suits(card(device), model.dtype, model.config)
    if fixed:
        compile_layers(model)
    return fixed


def compile_layers(model: PreTrainedModel) -> None:
    """Compile each layer as a whole. Layers of one kind share the code, so two kinds are compiled at most."""
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, 64)
    # norms may be computed again in the backward, from the sums before them, which are kept anyway
    torch._functorch.config.ban_recompute_materialized_backward = False
    for layer in model.model.layers:
        layer.compile(dynamic=False)


def uncompile_layers(model: PreTrainedModel) -> None:
    for layer in model.model.layers:
        layer._compiled_call_impl = None


def recompute(model: PreTrainedModel, layers: int) -> None:
    """Keep nothing but the input of the first `layers` layers for the backward, which computes them again.

    The first ones: when the backward comes to them, what the others kept is free again. Stacks draw their dropout
    before the forward; plain adapters draw it inside, and must draw the same again.
    """
    draws = any(isinstance(module, LoraLinear) and module.dropout for module in model.modules())
    for number, layer in enumerate(model.model.layers):
        layer.gradient_checkpointing = number < layers
        layer._gradient_checkpointing_func = partial(
            checkpoint, use_reentrant=False, preserve_rng_state=draws
        )


def current(device: str | torch.device) -> AbstractContextManager[None]:
    """Where kernels, streams and events go, whatever card the tensors are on: to this one; nothing on a CPU."""
    is_card = torch.device(device).type == "cuda"
    return torch.cuda.device(device) if is_card else nullcontext()


class ToHost:
    """A tensor on its way to the host; what is queued after it does not hold it up."""

    def __init__(self, tensor: Tensor) -> None:
        self._event: torch.cuda.Event | None = None
        self._tensor = tensor.detach()
        if tensor.is_cuda:
            self._tensor = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
            self._tensor.copy_(tensor.detach(), non_blocking=True)
            self._event = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._event.record()

    def get(self) -> Tensor:
        """The tensor on the host, once it is there."""
        if self._event is not None:
            self._event.synchronize()
        return self._tensor
