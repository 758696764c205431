"""Products with a frozen weight and its adapter, forward and backward.

y = x W^T + (alpha / rank) (x A^T) B^T. W is frozen and holds the weights of several layers that read the same
input, on top of each other; A and B hold theirs. The masters A and B are fp32 and computed in the type of x. The
adapter's part is added by the matrix product itself, so that no sum passes through memory.

Dimension letters: T tokens, I inputs, O outputs of all members, R ranks of all members, r rank of one.
"""

from typing import Any

import torch
from torch import Tensor

from tiebreak.model import fp8, nf4

Frozen = list[Tensor]
"""A frozen weight: [W (O, I)], or in FP8 [codes, scales, factor], or in NF4 [codes, scales of the blocks]."""


def dense(frozen: Frozen, outputs: int, kind: torch.dtype) -> Tensor:
    """The weight (O, I) of a Frozen that is not FP8."""
    return nf4.decode(frozen[0], frozen[1], outputs, kind) if nf4.is_code(frozen[0]) else frozen[0]


def forward(
    x_TI: Tensor, frozen: Frozen, a_RI: Tensor, b_Or: Tensor, sizes: list[int]
) -> tuple[Tensor, Tensor]:
    """Y (T, O), and x A^T (T, R), which the backward needs. b is scaled by alpha / rank."""
    low_TR = x_TI @ a_RI.t()
    if frozen[0].dtype == fp8.CODES:
        return fp8.product(x_TI, low_TR, *frozen), low_TR
    weight_OI = dense(frozen, len(b_Or), x_TI.dtype)
    if not low_TR.shape[1]:
        return x_TI @ weight_OI.t(), low_TR
    y_TO = x_TI.new_empty(len(x_TI), len(b_Or))
    for y, low, b in members(y_TO, low_TR, b_Or, sizes):
        torch.mm(low, b.t(), out=y)
    return y_TO.addmm_(x_TI, weight_OI.t()), low_TR


def input_gradient(
    dy_TO: Tensor, frozen: Frozen, a_RI: Tensor, b_Or: Tensor, sizes: list[int]
) -> tuple[Tensor, Tensor]:
    """The gradients of x (T, I) and of x A^T (T, R)."""
    inputs, ranks = a_RI.shape[1], len(a_RI)
    if frozen[0].dtype == fp8.CODES:
        codes_OJ, scale_O, factor = frozen
        both_TJ = fp8.input_gradient(dy_TO, codes_OJ, scale_O)
        dx_TI, g_TR = both_TJ[:, :inputs], both_TJ[:, inputs:] * factor.to(dy_TO.dtype)
    else:
        dx_TI = dy_TO @ dense(frozen, len(b_Or), dy_TO.dtype)
        g_TR = dy_TO.new_empty(len(dy_TO), ranks)
        for dy, g, b in members(dy_TO, g_TR, b_Or, sizes) if ranks else ():
            torch.mm(dy, b, out=g)
    return dx_TI.addmm_(g_TR, a_RI) if ranks else dx_TI, g_TR


def adapter_gradients(
    dy_TO: Tensor, x_TI: Tensor, low_TR: Tensor, g_TR: Tensor, sizes: list[int]
) -> tuple[Tensor, Tensor]:
    """The gradients of A (R, I) and of the scaled B (O, r), in fp32."""
    r = low_TR.shape[1] // len(sizes)
    db_Or = torch.empty(dy_TO.shape[1], r, dtype=torch.float32, device=dy_TO.device)
    for dy, low, db in members(dy_TO, low_TR, db_Or, sizes):
        db.copy_(product32(dy.t(), low))
    return product32(g_TR.t(), x_TI), db_Or


def product32(a: Tensor, b: Tensor) -> Tensor:
    """A b in fp32, accumulated and kept."""
    if a.dtype == torch.float32 or not a.is_cuda:
        return (a @ b).float()
    return torch.mm(a, b, out_dtype=torch.float32)


def members(wide_TO: Tensor, low_TR: Tensor, b_Or: Tensor, sizes: list[int]) -> Any:
    """The parts of each member: of a (T, O), of a (T, R), and the rows of an (O, r)."""
    ranks = low_TR.shape[1] // len(sizes)
    return zip(
        torch.split(wide_TO, sizes, 1), torch.split(low_TR, ranks, 1), torch.split(b_Or, sizes), strict=True
    )
