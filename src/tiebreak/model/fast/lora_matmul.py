"""LoRA matrix products: a frozen weight and its adapter, forward and backward.

y = x W^T + (alpha / rank) (x A^T) B^T. W is frozen and concatenates the weights of several layers that read the same
input; A and B concatenate theirs, with B times alpha / rank. The master weights are fp32 and cast to the type of x.
Dense and FP8 weights have B in additional columns, [W, B], so that one product computes both parts, forward
and backward; with NF4 the matrix product adds the adapter's part in place. So no separate addition is needed.

Dimension letters: T tokens, I inputs, O outputs of all members, R ranks of all members, r rank of one, J = I + R.
"""

from typing import Any

import torch
from torch import Tensor

from tiebreak.model.fast import elementwise, fp8, nf4

Frozen = list[Tensor]
"""A frozen weight: [[W, B] (O, J)], or in FP8 [codes (O, J), scales, factor], or in NF4 [codes, scales, B (O, r)]."""


def forward(x_TI: Tensor, frozen: Frozen, a_RI: Tensor, sizes: list[int]) -> tuple[Tensor, Tensor]:
    """The output y (T, O), and x A^T (T, R), which the backward needs."""
    low_TR = x_TI @ a_RI.t()
    if fp8.is_encoded(frozen[0]):
        codes_OJ, scale_O, factor = frozen
        rows = elementwise.quantise_rows(x_TI, None, low_TR, factor)
        return fp8.matmul(rows, codes_OJ, scale_O, x_TI.dtype), low_TR
    if nf4.is_encoded(frozen[0]):
        if not len(a_RI):
            return x_TI @ _dequantised_nf4(frozen, x_TI.dtype).t(), low_TR
        y_TO = x_TI.new_empty(len(x_TI), sum(sizes))
        for y, low, b in members(y_TO, low_TR, frozen[2], sizes):
            torch.mm(low, b.t(), out=y)
        return y_TO.addmm_(x_TI, _dequantised_nf4(frozen, x_TI.dtype).t()), low_TR
    return _dense(x_TI, low_TR, frozen[0]), low_TR


def _dense(x_TI: Tensor, low_TR: Tensor, both_OJ: Tensor) -> Tensor:
    """The dense product [x, low] [W, B]^T; where x is wider than y, two products added in place instead of a concatenation."""
    inputs = x_TI.shape[1]
    if not low_TR.shape[1]:
        return x_TI @ both_OJ.t()
    if len(both_OJ) > inputs:
        return torch.cat([x_TI, low_TR], 1) @ both_OJ.t()
    return (low_TR @ both_OJ[:, inputs:].t()).addmm_(x_TI, both_OJ[:, :inputs].t())


def _dequantised_nf4(frozen: Frozen, kind: torch.dtype) -> Tensor:
    codes, scales, b_Or = frozen
    return nf4.decode(codes, scales, len(b_Or), kind)


def dequantised(frozen: Frozen, outputs: int, inputs: int) -> Tensor:
    """The weight (O, I) of any format without adapters, in fp32."""
    if fp8.is_encoded(frozen[0]):
        return frozen[0][:, :inputs].float() * frozen[1][:, None]
    if nf4.is_encoded(frozen[0]):
        return nf4.decode(frozen[0], frozen[1], outputs, torch.float32)
    return frozen[0][:, :inputs].float()


def input_gradient(
    dy_TO: Tensor, frozen: Frozen, a_RI: Tensor, sizes: list[int], rows: elementwise.Codes | None = None
) -> tuple[Tensor, Tensor]:
    """The gradients of x (T, I) and of x A^T (T, R). rows: dy times the scales of an FP8 weight, if computed before."""
    ranks, inputs = a_RI.shape
    if nf4.is_encoded(frozen[0]):
        dx_TI = dy_TO @ _dequantised_nf4(frozen, dy_TO.dtype)
        g_TR = dy_TO.new_empty(len(dy_TO), ranks)
        for dy, g, b in members(dy_TO, g_TR, frozen[2], sizes) if ranks else ():
            torch.mm(dy, b, out=g)
    elif fp8.is_encoded(frozen[0]):
        codes_OJ, scale_O, factor = frozen
        both_TJ = fp8.input_gradient(rows or elementwise.quantise_rows(dy_TO, scale_O), codes_OJ, dy_TO.dtype)
        dx_TI, g_TR = both_TJ[:, :inputs], both_TJ[:, inputs:] * factor.to(dy_TO.dtype)
    else:
        both_TJ = dy_TO @ frozen[0]
        dx_TI, g_TR = both_TJ[:, :inputs], both_TJ[:, inputs:]
    return dx_TI.addmm_(g_TR, a_RI) if ranks else dx_TI, g_TR


def adapter_gradients(
    dy_TO: Tensor, x_TI: Tensor, low_TR: Tensor, g_TR: Tensor, sizes: list[int]
) -> tuple[Tensor, Tensor]:
    """The gradients of A (R, I) and of the scaled B (O, r), in fp32."""
    r = low_TR.shape[1] // len(sizes)
    db_Or = torch.empty(dy_TO.shape[1], r, dtype=torch.float32, device=dy_TO.device)
    for dy, low, db in members(dy_TO, low_TR, db_Or, sizes):
        db.copy_(matmul_fp32(dy.t(), low))
    return matmul_fp32(g_TR.t(), x_TI), db_Or


def matmul_fp32(a: Tensor, b: Tensor) -> Tensor:
    """The product a b, accumulated and returned in fp32."""
    if a.dtype == torch.float32 or not a.is_cuda:
        return (a @ b).float()
    return torch.mm(a, b, out_dtype=torch.float32)


def members(wide_TO: Tensor, low_TR: Tensor, b_Or: Tensor, sizes: list[int]) -> Any:
    """The parts of each member: columns of a (T, O), columns of a (T, R), and rows of an (O, r)."""
    ranks = low_TR.shape[1] // len(sizes)
    return zip(
        torch.split(wide_TO, sizes, 1), torch.split(low_TR, ranks, 1), torch.split(b_Or, sizes), strict=True
    )
