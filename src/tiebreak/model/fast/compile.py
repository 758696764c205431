"""Compilation of a decoder's layers on a GPU, the check for kernel support, and activation recomputation.

Kernels need shapes that repeat, so batches are padded to a few fixed sizes (`tokens.packing.batches`).
"""

import importlib.util
from contextlib import AbstractContextManager, nullcontext
from functools import partial

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedConfig, PreTrainedModel

from tiebreak.hardware.gpu_specs import Card
from tiebreak.model.lora import LoraLinear
from tiebreak.model.precision import device_card

HEAD_SIZES = (16, 32, 64, 128, 256)


def supports_kernels(on: Card, dtype: torch.dtype, config: PreTrainedConfig) -> bool:
    """True if the attention kernel can run: Ampere or later, 16 bits, a head size that is a power of two."""
    text = config.get_text_config()
    head_size = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    return (
        on.capability >= (8, 0)
        and dtype in (torch.bfloat16, torch.float16)
        and head_size in HEAD_SIZES
        and importlib.util.find_spec("triton") is not None
    )


def compile_if_supported(model: PreTrainedModel, device: str) -> bool:
    """Compile the layers if model and card support the kernels; returns true if batches then need fixed shapes."""
    fixed = supports_kernels(device_card(device), model.dtype, model.config)
    if fixed:
        compile_layers(model)
    return fixed


def compile_layers(model: PreTrainedModel) -> None:
    """Compile each layer as a whole, once for all lengths. Layers of one kind share the code, so at most two are compiled."""
    from torch._inductor import config as inductor_config

    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, 64)
    # norms may be recomputed in the backward from the residual sums before them, which are kept anyway
    torch._functorch.config.ban_recompute_materialized_backward = False
    # torch 2.11's pool of compile processes can lose a kernel and then waits for it forever
    inductor_config.compile_threads = 1
    for layer in model.model.layers:
        layer.compile(dynamic=True)


def uncompile_layers(model: PreTrainedModel) -> None:
    for layer in model.model.layers:
        layer._compiled_call_impl = None


def recompute(model: PreTrainedModel, layers: int) -> None:
    """Recompute the first `layers` layers in the backward, so that the forward keeps only their inputs.

    The first ones, because the activations of the others are free by the time the backward reaches them. Fused layers
    draw their dropout before the forward; plain adapters draw it inside, and must draw the same mask again.
    """
    has_dropout = any(isinstance(module, LoraLinear) and module.dropout for module in model.modules())
    for number, layer in enumerate(model.model.layers):
        layer.gradient_checkpointing = number < layers
        layer._gradient_checkpointing_func = partial(
            checkpoint, use_reentrant=False, preserve_rng_state=has_dropout
        )


def device_context(device: str | torch.device) -> AbstractContextManager[None]:
    """A context that makes a card current for kernels, streams and events; without effect on a CPU."""
    is_card = torch.device(device).type == "cuda"
    return torch.cuda.device(device) if is_card else nullcontext()


class ToHost:
    """An asynchronous copy of a tensor to the host, which does not wait for work queued after it."""

    def __init__(self, tensor: Tensor) -> None:
        self._event: torch.cuda.Event | None = None
        self._tensor = tensor.detach()
        if tensor.is_cuda:
            self._tensor = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
            self._tensor.copy_(tensor.detach(), non_blocking=True)
            self._event = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._event.record()

    def get(self) -> Tensor:
        """The tensor on the host; waits for the copy."""
        if self._event is not None:
            self._event.synchronize()
        return self._tensor
