"""Triton kernels for fused elementwise operations between matrix products, with one pass over memory each.

Dimension letters: T tokens, X features, F features of an MLP, G = 2 F of its gate and up side by side, R ranks of
adapters, O and I rows and columns of a weight. gelu: the activation, GELU by tanh, or else SiLU.
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
    """Quantise rows of [x * scale_X, low * factor] to FP8 (e4m3), with a scale per row (T, 1)."""
    T, X = x_TX.shape
    R = 0 if low_TR is None else low_TR.shape[1]
    codes_TX, scales_T1 = _codes(T, X + R, x_TX.device)
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
    """The transpose of a matrix of bytes: (O, I) -> (I, O), contiguous."""
    O, I = codes_OI.shape  # noqa: E741
    out_IO = torch.empty(I, O, dtype=codes_OI.dtype, device=codes_OI.device)
    grid = (triton.cdiv(O, 128), triton.cdiv(I, 128))
    _transpose_kernel[grid](codes_OI.view(torch.uint8), out_IO.view(torch.uint8), O, I, 128, 128, num_warps=8)
    return out_IO


@triton.jit
def _activate(gate, GELU: tl.constexpr):
    """The activation and its slope, in fp32."""
    if GELU:  # 0.5 g (1 + tanh(u)) = g sigmoid(2 u), u = sqrt(2 / pi) (g + 0.044715 g^3)
        u = 1.5957691216057308 * (gate + 0.044715 * gate * gate * gate)
        s = 1 / (1 + tl.exp2(-1.4426950408889634 * u))
        slope = s + gate * s * (1 - s) * 1.5957691216057308 * (1 + 0.134145 * gate * gate)
    else:
        s = 1 / (1 + tl.exp2(-1.4426950408889634 * gate))
        slope = s * (1 + gate * (1 - s))
    return gate * s, slope


@triton.jit
def _gate_and_up(both_ptr, row, column, F):
    """A block of a row's gate and up, in fp32."""
    gate = tl.load(both_ptr + row * 2 * F + column, mask=column < F, other=0.0)
    up = tl.load(both_ptr + row * 2 * F + F + column, mask=column < F, other=0.0)
    return gate.to(tl.float32), up.to(tl.float32)


@triton.jit
def _gate_kernel(
    both_ptr, h_ptr, codes_ptr, scales_ptr, F, GELU: tl.constexpr, QUANTISED: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    largest = tl.zeros([BLOCK], tl.float32)
    for start in range(0, F, BLOCK):
        column = start + tl.arange(0, BLOCK)
        gate, up = _gate_and_up(both_ptr, row, column, F)
        active, _ = _activate(gate, GELU)
        if QUANTISED:
            largest = tl.maximum(largest, tl.abs(active * up))
        else:
            tl.store(h_ptr + row * F + column, (active * up).to(h_ptr.dtype.element_ty), mask=column < F)
    if QUANTISED:
        scale = tl.maximum(tl.max(largest, 0), 1e-12) / LARGEST_FP8
        for start in range(0, F, BLOCK):  # the row is in cache by now
            column = start + tl.arange(0, BLOCK)
            gate, up = _gate_and_up(both_ptr, row, column, F)
            active, _ = _activate(gate, GELU)
            code = (active * up / scale).to(codes_ptr.dtype.element_ty)
            tl.store(codes_ptr + row * F + column, code, mask=column < F)
        tl.store(scales_ptr + row, scale)


@triton.jit
def _gate_gradient_kernel(
    dh_ptr, dh_row, both_ptr, d_ptr, h_ptr, scale_X_ptr, codes_ptr, scales_ptr, F,
    GELU: tl.constexpr, QUANTISED: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    largest = tl.zeros([BLOCK], tl.float32)
    for start in range(0, F, BLOCK):
        column = start + tl.arange(0, BLOCK)
        gate, up = _gate_and_up(both_ptr, row, column, F)
        dh = tl.load(dh_ptr + row * dh_row + column, mask=column < F, other=0.0).to(tl.float32)
        active, slope = _activate(gate, GELU)
        dgate = (dh * up * slope).to(d_ptr.dtype.element_ty)
        dup = (dh * active).to(d_ptr.dtype.element_ty)
        tl.store(d_ptr + row * 2 * F + column, dgate, mask=column < F)
        tl.store(d_ptr + row * 2 * F + F + column, dup, mask=column < F)
        tl.store(h_ptr + row * F + column, (active * up).to(h_ptr.dtype.element_ty), mask=column < F)
        if QUANTISED:
            scale_gate = tl.load(scale_X_ptr + column, mask=column < F, other=0.0)
            scale_up = tl.load(scale_X_ptr + F + column, mask=column < F, other=0.0)
            largest = tl.maximum(largest, tl.abs(dgate.to(tl.float32) * scale_gate))
            largest = tl.maximum(largest, tl.abs(dup.to(tl.float32) * scale_up))
    if QUANTISED:
        scale = tl.maximum(tl.max(largest, 0), 1e-12) / LARGEST_FP8
        tl.debug_barrier()  # other threads may have stored what is loaded now
        for start in range(0, 2 * F, BLOCK):
            column = start + tl.arange(0, BLOCK)
            d = tl.load(d_ptr + row * 2 * F + column, mask=column < 2 * F, other=0.0).to(tl.float32)
            d = d * tl.load(scale_X_ptr + column, mask=column < 2 * F, other=0.0)
            tl.store(
                codes_ptr + row * 2 * F + column,
                (d / scale).to(codes_ptr.dtype.element_ty),
                mask=column < 2 * F,
            )
        tl.store(scales_ptr + row, scale)


def gate(gate_up_TG: Tensor, gelu: bool) -> Tensor:
    """act(gate) * up of [gate, up] (T, 2 F): (T, F)."""
    T, F = gate_up_TG.shape[0], gate_up_TG.shape[1] // 2
    h_TF = gate_up_TG.new_empty(T, F)
    block, warps = _block_and_warps(F, quantised=False)
    _gate_kernel[(T,)](gate_up_TG, h_TF, None, None, F, gelu, False, block, num_warps=warps)
    return h_TF


def gate_codes(gate_up_TG: Tensor, gelu: bool) -> tuple[Tensor, Tensor]:
    """act(gate) * up in FP8 (e4m3), with a scale per row (T, 1)."""
    T, F = gate_up_TG.shape[0], gate_up_TG.shape[1] // 2
    codes_TF, scales_T1 = _codes(T, F, gate_up_TG.device)
    block, warps = _block_and_warps(F, quantised=True)
    _gate_kernel[(T,)](gate_up_TG, None, codes_TF, scales_T1, F, gelu, True, block, num_warps=warps)
    return codes_TF, scales_T1


def gate_gradient(
    dh_TF: Tensor, gate_up_TG: Tensor, gelu: bool, scale_X: Tensor | None
) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor] | None]:
    """The gradient of [gate, up], recomputed act(gate) * up, and, given scale_X, FP8 codes of gradient * scale_X."""
    T, F = gate_up_TG.shape[0], gate_up_TG.shape[1] // 2
    d_TG, h_TF = torch.empty_like(gate_up_TG), gate_up_TG.new_empty(T, F)
    codes = None if scale_X is None else _codes(T, 2 * F, gate_up_TG.device)
    block, warps = _block_and_warps(F, quantised=codes is not None)
    _gate_gradient_kernel[(T,)](
        dh_TF, dh_TF.stride(0), gate_up_TG, d_TG, h_TF, scale_X, *(codes or (None, None)), F,
        gelu, codes is not None, block, num_warps=warps,
    )  # fmt: skip
    return d_TG, h_TF, codes


def _codes(rows: int, width: int, device: torch.device) -> tuple[Tensor, Tensor]:
    return (
        torch.empty(rows, width, dtype=torch.float8_e4m3fn, device=device),
        torch.empty(rows, 1, dtype=torch.float32, device=device),
    )


def _block_and_warps(width: int, quantised: bool) -> tuple[int, int]:
    """The block of features per step, and warps. Rows that are read twice have more warps, so that few rows are
    processed at a time and stay in the L2 cache.
    """
    block = min(8192 if quantised else 2048, int(triton.next_power_of_2(width)))
    return block, max(1, block // 256)
