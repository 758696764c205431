"""Triton kernels for what surrounds the matrix products: one pass over memory each.

Dimension letters: T tokens, X features, R ranks of adapters, O and I rows and columns of a weight.
"""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls, allow-untyped-decorators

import torch
import triton
import triton.language as tl
from torch import Tensor

LARGEST_FP8 = tl.constexpr(448.0)


@triton.jit
def _quantise_kernel(
    x_ptr, x_row, low_ptr, low_row, factor_ptr, scale_X_ptr, codes_ptr, scales_ptr, X, R,
    SCALED: tl.constexpr, BLOCK: tl.constexpr, LOW: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, BLOCK)
    x = tl.load(x_ptr + row * x_row + column, mask=column < X, other=0.0).to(tl.float32)
    if SCALED:
        x = x * tl.load(scale_X_ptr + column, mask=column < X, other=0.0)
    largest = tl.max(tl.abs(x), 0)
    if LOW > 0:
        rank = tl.arange(0, LOW)
        low = tl.load(low_ptr + row * low_row + rank, mask=rank < R, other=0.0).to(tl.float32)
        low = low * tl.load(factor_ptr)
        largest = tl.maximum(largest, tl.max(tl.abs(low), 0))
    scale = tl.maximum(largest, 1e-12) / LARGEST_FP8
    kind = codes_ptr.dtype.element_ty
    tl.store(codes_ptr + row * (X + R) + column, (x / scale).to(kind), mask=column < X)
    if LOW > 0:
        tl.store(codes_ptr + row * (X + R) + X + rank, (low / scale).to(kind), mask=rank < R)
    tl.store(scales_ptr + row, scale)


def quantise_rows(
    x_TX: Tensor,
    scale_X: Tensor | None = None,
    low_TR: Tensor | None = None,
    factor: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Rows of [x * scale_X, low * factor] in FP8 (e4m3), and each row's scale (T, 1)."""
    T, X = x_TX.shape
    R = 0 if low_TR is None else low_TR.shape[1]
    codes_TX = torch.empty(T, X + R, dtype=torch.float8_e4m3fn, device=x_TX.device)
    scales_T1 = torch.empty(T, 1, dtype=torch.float32, device=x_TX.device)
    block = triton.next_power_of_2(X)
    low = x_TX if low_TR is None else low_TR
    _quantise_kernel[(T,)](
        x_TX, x_TX.stride(0), low, low.stride(0), factor, scale_X, codes_TX, scales_T1, X, R,
        scale_X is not None, block, triton.next_power_of_2(R) if R else 0,
        num_warps=min(32, max(4, block // 1024)),
    )  # fmt: skip
    return codes_TX, scales_T1


@triton.jit
def _transpose_kernel(x_ptr, out_ptr, height, width, ROWS: tl.constexpr, COLS: tl.constexpr):
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    cols = tl.program_id(1) * COLS + tl.arange(0, COLS)
    tile = tl.load(
        x_ptr + rows[:, None].to(tl.int64) * width + cols[None, :],
        mask=(rows[:, None] < height) & (cols[None, :] < width),
    )
    tl.store(
        out_ptr + cols[:, None].to(tl.int64) * height + rows[None, :],
        tl.trans(tile),
        mask=(cols[:, None] < width) & (rows[None, :] < height),
    )


def transposed(codes_OI: Tensor) -> Tensor:
    """A matrix of bytes laid out the other way: (O, I) -> (I, O), contiguous."""
    O, I = codes_OI.shape  # noqa: E741
    out_IO = torch.empty(I, O, dtype=codes_OI.dtype, device=codes_OI.device)
    grid = (triton.cdiv(O, 128), triton.cdiv(I, 128))
    _transpose_kernel[grid](codes_OI.view(torch.uint8), out_IO.view(torch.uint8), O, I, 128, 128, num_warps=8)
    return out_IO
