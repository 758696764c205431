"""Differentiable operators for frozen linear layers with adapters, and for a gated MLP.

torch.compile can neither add an adapter's part inside the matrix product, nor compute the backward of a gate in one
pass over memory. An MLP keeps [gate, up] for its backward; act(gate) * up is recomputed.

Dimension letters: T tokens, I inputs, O outputs of all members, R ranks of all members, r rank of one, F features of
an MLP, G = 2 F of its gate and up.
"""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls, allow-untyped-decorators

import torch
from torch import Tensor

from tiebreak.model.fast import elementwise, fp8, nf4
from tiebreak.model.fast.custom_op import define_operator, register_backward
from tiebreak.model.fast.lora_matmul import Frozen, adapter_gradients, forward, input_gradient


def _gradients(
    dy_TO: Tensor, x_TI: Tensor, low_TR: Tensor, g_TR: Tensor, keep_I: Tensor | None, scale: float, sizes: list[int]
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """The gradients of the master weights A and B."""
    da_RI, db_Or = adapter_gradients(dy_TO, x_TI, low_TR, g_TR, sizes)
    return da_RI if keep_I is None else da_RI.mul_(keep_I), db_Or.mul_(scale)


def _adapted(
    x_TI: Tensor, frozen: Frozen, a_RI: Tensor, lora_A: Tensor, lora_B: Tensor, keep_I: Tensor | None,
    scale: float, sizes: list[int],
) -> tuple[Tensor, Tensor]:  # fmt: skip
    return forward(x_TI, frozen, a_RI, sizes)


def _adapted_fake(x_TI, frozen, a_RI, lora_A, lora_B, keep_I, scale, sizes):
    T = x_TI.shape[0]  # not len(), which would fix it in compiled code
    return x_TI.new_empty(T, sum(sizes)), x_TI.new_empty(T, len(a_RI))


def _adapted_backward(
    dy_TO: Tensor, x_TI: Tensor, low_TR: Tensor, frozen: Frozen, a_RI: Tensor, keep_I: Tensor | None,
    scale: float, sizes: list[int],
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    dy_TO = dy_TO.contiguous()
    dx_TI, g_TR = input_gradient(dy_TO, frozen, a_RI, sizes)
    return dx_TI, *_gradients(dy_TO, x_TI, low_TR, g_TR, keep_I, scale, sizes)


def _adapted_backward_fake(dy_TO, x_TI, low_TR, frozen, a_RI, keep_I, scale, sizes):
    R, I = a_RI.shape  # noqa: E741
    return _input_gradient_fake(dy_TO, frozen, a_RI), *_gradients_fake(R, I, sizes, a_RI)


def _input_gradient_fake(dy_TO, frozen, a_RI):
    R, I = a_RI.shape  # noqa: E741
    row = I if nf4.is_encoded(frozen[0]) else I + R
    return dy_TO.new_empty_strided((dy_TO.shape[0], I), (row, 1))


def _gradients_fake(R, I, sizes, a_RI):  # noqa: E741
    kind = torch.float32
    return a_RI.new_empty(R, I, dtype=kind), a_RI.new_empty(sum(sizes), R // len(sizes), dtype=kind)


adapted = define_operator("adapted", _adapted, _adapted_fake)
adapted_backward = define_operator("adapted_backward", _adapted_backward, _adapted_backward_fake)


def _adapted_setup(ctx, inputs, output):
    ctx.set_materialize_grads(False)  # no zeros for outputs without a gradient
    x_TI, frozen, a_RI, _, _, keep_I, ctx.scale, ctx.sizes = inputs
    ctx.save_for_backward(x_TI, output[1], a_RI, keep_I, *frozen)


def _adapted_gradient(ctx, dy_TO, _):
    x_TI, low_TR, a_RI, keep_I, *frozen = ctx.saved_tensors
    dx_TI, da_RI, db_Or = adapted_backward(dy_TO, x_TI, low_TR, frozen, a_RI, keep_I, ctx.scale, ctx.sizes)
    return dx_TI, [None] * len(frozen), None, da_RI, db_Or, None, None, None


register_backward("adapted", _adapted_gradient, _adapted_setup)


def _gated(
    x_TI: Tensor,
    up: Frozen, up_a_RI: Tensor, up_A: Tensor, up_B: Tensor, up_keep_I: Tensor | None,
    down: Frozen, down_a_RF: Tensor, down_A: Tensor, down_B: Tensor, down_keep_F: Tensor | None,
    outputs: int, scale: float, gelu: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """The output down(act(gate) * up), and for the backward [gate, up] and the products with each A."""
    F = down_a_RF.shape[1]
    gate_up_TG, up_low_TR = forward(x_TI, up, up_a_RI, [F, F])
    if fp8.is_encoded(down[0]) and not len(down_a_RF):
        rows = elementwise.gate_codes(gate_up_TG, gelu)
        y_TO = fp8.matmul(rows, down[0], down[1], x_TI.dtype)
        return y_TO, gate_up_TG, up_low_TR, x_TI.new_empty(len(x_TI), 0)
    y_TO, down_low_TR = forward(elementwise.gate(gate_up_TG, gelu), down, down_a_RF, [outputs])
    return y_TO, gate_up_TG, up_low_TR, down_low_TR


def _gated_fake(
    x_TI, up, up_a_RI, up_A, up_B, up_keep_I, down, down_a_RF, down_A, down_B, down_keep_F, outputs, scale, gelu
):  # fmt: skip
    widths = (outputs, 2 * down_a_RF.shape[1], len(up_a_RI), len(down_a_RF))
    return tuple(x_TI.new_empty(x_TI.shape[0], width) for width in widths)


def _gated_backward(
    dy_TO: Tensor, x_TI: Tensor, gate_up_TG: Tensor, up_low_TR: Tensor, down_low_TR: Tensor,
    up: Frozen, up_a_RI: Tensor, up_keep_I: Tensor | None,
    down: Frozen, down_a_RF: Tensor, down_keep_F: Tensor | None, scale: float, gelu: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    dy_TO = dy_TO.contiguous()
    outputs, F = [dy_TO.shape[1]], down_a_RF.shape[1]
    dh_TF, down_g_TR = input_gradient(dy_TO, down, down_a_RF, outputs)
    scale_F = up[1] if fp8.is_encoded(up[0]) else None
    dgate_up_TG, h_TF, rows = elementwise.gate_gradient(dh_TF, gate_up_TG, gelu, scale_F)
    of_down = _gradients(dy_TO, h_TF, down_low_TR, down_g_TR, down_keep_F, scale, outputs)
    del dh_TF, h_TF  # large, and not needed below
    dx_TI, up_g_TR = input_gradient(dgate_up_TG, up, up_a_RI, [F, F], rows)
    of_up = _gradients(dgate_up_TG, x_TI, up_low_TR, up_g_TR, up_keep_I, scale, [F, F])
    return dx_TI, *of_up, *of_down


def _gated_backward_fake(
    dy_TO, x_TI, gate_up_TG, up_low_TR, down_low_TR, up, up_a_RI, up_keep_I, down, down_a_RF, down_keep_F, scale, gelu
):  # fmt: skip
    (R, I), (S, F) = up_a_RI.shape, down_a_RF.shape  # noqa: E741
    of_up = _gradients_fake(R, I, [F, F], up_a_RI)
    of_down = _gradients_fake(S, F, [dy_TO.shape[1]], down_a_RF)
    return _input_gradient_fake(dy_TO, up, up_a_RI), *of_up, *of_down


gated = define_operator("gated", _gated, _gated_fake)
gated_backward = define_operator("gated_backward", _gated_backward, _gated_backward_fake)


def _gated_setup(ctx, inputs, output):
    ctx.set_materialize_grads(False)
    x_TI, up, up_a_RI, _, _, up_keep_I, down, down_a_RF, _, _, down_keep_F, _, ctx.scale, ctx.gelu = inputs
    ctx.parts = len(up)
    ctx.save_for_backward(x_TI, *output[1:], up_a_RI, up_keep_I, down_a_RF, down_keep_F, *up, *down)


def _gated_gradient(ctx, dy_TO, *_):
    x_TI, gate_up_TG, up_low_TR, down_low_TR, up_a_RI, up_keep_I, down_a_RF, down_keep_F, *frozen = (
        ctx.saved_tensors
    )
    up, down = frozen[: ctx.parts], frozen[ctx.parts :]
    dx_TI, dup_A, dup_B, ddown_A, ddown_B = gated_backward(
        dy_TO, x_TI, gate_up_TG, up_low_TR, down_low_TR, up, up_a_RI, up_keep_I, down, down_a_RF, down_keep_F,
        ctx.scale, ctx.gelu,
    )  # fmt: skip
    nothing = [None] * ctx.parts
    return dx_TI, nothing, None, dup_A, dup_B, None, nothing, None, ddown_A, ddown_B, None, None, None, None


register_backward("gated", _gated_gradient, _gated_setup)
