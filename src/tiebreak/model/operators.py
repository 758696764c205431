"""Frozen linear layers with adapters as differentiable operators.

They are custom operators, which torch.compile keeps whole: it could not add an adapter's part inside the matrix
product.

Dimension letters: T tokens, I inputs, O outputs of all members, R ranks of all members, r rank of one.
"""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls, allow-untyped-decorators

import torch
from torch import Tensor

from tiebreak.model.fp8 import CODES
from tiebreak.model.products import Frozen, adapter_gradients, forward, input_gradient


def _cast(lora_A: Tensor, lora_B: Tensor, keep_I: Tensor | None, scale: float, kind: torch.dtype):
    return (lora_A if keep_I is None else lora_A * keep_I).to(kind), (lora_B * scale).to(kind)


def _adapted(
    x_TI: Tensor, frozen: Frozen, lora_A: Tensor, lora_B: Tensor, keep_I: Tensor | None, scale: float, sizes: list[int]
) -> tuple[Tensor, Tensor]:  # fmt: skip
    a_RI, b_Or = _cast(lora_A, lora_B, keep_I, scale, x_TI.dtype)
    return forward(x_TI, frozen, a_RI, b_Or, sizes)


def _adapted_backward(
    dy_TO: Tensor, x_TI: Tensor, low_TR: Tensor, frozen: Frozen, lora_A: Tensor, lora_B: Tensor,
    keep_I: Tensor | None, scale: float, sizes: list[int],
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    a_RI, b_Or = _cast(lora_A, lora_B, keep_I, scale, x_TI.dtype)
    dy_TO = dy_TO.contiguous()
    dx_TI, g_TR = input_gradient(dy_TO, frozen, a_RI, b_Or, sizes)
    da_RI, db_Or = adapter_gradients(dy_TO, x_TI, low_TR, g_TR, sizes)
    return dx_TI, da_RI if keep_I is None else da_RI.mul_(keep_I), db_Or.mul_(scale)


def _operator(name: str, function):
    return torch.library.custom_op(f"tiebreak::{name}", function, mutates_args=())


adapted, adapted_backward = _operator("adapted", _adapted), _operator("adapted_backward", _adapted_backward)


@adapted.register_fake
def _(x_TI, frozen, lora_A, lora_B, keep_I, scale, sizes):
    return x_TI.new_empty(len(x_TI), len(lora_B)), x_TI.new_empty(len(x_TI), len(lora_A))


@adapted_backward.register_fake
def _(dy_TO, x_TI, low_TR, frozen, lora_A, lora_B, keep_I, scale, sizes):
    T, I = x_TI.shape  # noqa: E741
    row = I + len(lora_A) if frozen[0].dtype == CODES else I
    return dy_TO.new_empty_strided((T, I), (row, 1)), torch.empty_like(lora_A), torch.empty_like(lora_B)


def _adapted_setup(ctx, inputs, output):
    x_TI, frozen, lora_A, lora_B, keep_I, ctx.scale, ctx.sizes = inputs
    ctx.save_for_backward(x_TI, output[1], lora_A, lora_B, keep_I, *frozen)


def _adapted_gradient(ctx, dy_TO, _):
    x_TI, low_TR, lora_A, lora_B, keep_I, *frozen = ctx.saved_tensors
    dx_TI, da_RI, db_Or = adapted_backward(
        dy_TO, x_TI, low_TR, frozen, lora_A, lora_B, keep_I, ctx.scale, ctx.sizes
    )
    return dx_TI, [None] * len(frozen), da_RI, db_Or, None, None, None


adapted.register_autograd(_adapted_gradient, setup_context=_adapted_setup)
