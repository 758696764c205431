"""FlashAttention kernels in Triton for packed documents, forward and backward.

The algorithm is FlashAttention-2 (Dao 2023, arXiv:2307.08691), exact and without a score matrix in memory, over the
tiles of `tokens.packing.Tiles`: no tile crosses a document, so short documents waste little. Besides its own document a
row may attend to a prefix elsewhere in the packed sequence (the prompt that both orders of a vote share).

Dimension letters: T tokens of the packed row, H heads, K key-value heads, E head size, M rows of a query tile,
N rows of a key tile.
"""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls, allow-untyped-decorators

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.tools.tensor_descriptor import TensorDescriptor

from tiebreak.model.fast.custom_op import define_operator, register_backward
from tiebreak.tokens.packing import TILE

LOG2E = tl.constexpr(1.4426950408889634)
NEVER = tl.constexpr(-1e30)  # finite, so that a row whose first tile is masked out does not become NaN


@dataclass(frozen=True)
class KernelConfig:
    """The launch configuration of a kernel: rows of its own tile (a divisor of TILE), rows of a step, warps, stages."""

    own: int
    step: int
    warps: int
    stages: int


# head size: forward, gradient of queries, gradient of keys and values. The fastest of 208 tried on an H100
# (benchmarks/attention.py --tune) on rows of arena votes' lengths; those of 64 of 144 on an H200, 9 heads and 3 of keys.
KERNEL_CONFIGS = {
    64: (KernelConfig(64, 64, 4, 2), KernelConfig(64, 64, 4, 2), KernelConfig(64, 128, 4, 3)),
    128: (KernelConfig(64, 32, 4, 2), KernelConfig(64, 64, 4, 2), KernelConfig(64, 64, 4, 2)),
    256: (KernelConfig(64, 64, 4, 1), KernelConfig(128, 32, 8, 3), KernelConfig(64, 64, 8, 2)),
}


def kernel_configs(head_size: int) -> tuple[KernelConfig, KernelConfig, KernelConfig]:
    """The configurations of the three kernels for a head size."""
    return KERNEL_CONFIGS[max(64, head_size)]


@triton.jit
def _scores(a, b, scale, cap: tl.constexpr):
    """The scaled, capped scores a b^T, and the slope of the cap at each."""
    scores = tl.dot(a, tl.trans(b)) * scale
    slope = scores
    if cap > 0:
        # tanh from one exponential and one division, exact to fp32 rounding; saturates cleanly at both ends
        tanh = 1 - 2 / (1 + tl.exp2(scores * (2 * LOG2E / cap)))
        scores = cap * tanh
        slope = 1 - tanh * tanh
    return scores, slope


@triton.jit
def _forward_kernel(
    q_TX, k_TX, v_TX, out_ptr, lse_ptr, tiles_ptr, scale, tokens,
    H: tl.constexpr, GROUP: tl.constexpr, E: tl.constexpr, cap: tl.constexpr, window: tl.constexpr,
    PARTS: tl.constexpr, M: tl.constexpr, N: tl.constexpr,
):  # fmt: skip
    head = tl.program_id(0) % H
    part = tl.program_id(0) // H
    tile = tiles_ptr + (part // PARTS) * 5
    start = tl.load(tile) + (part % PARTS) * M
    stop, own, prefix, prefix_stop = (
        tl.load(tile + 1),
        tl.load(tile + 2),
        tl.load(tile + 3),
        tl.load(tile + 4),
    )
    if start >= stop:
        return
    rows_M, offs_N, offs_E = start + tl.arange(0, M), tl.arange(0, N), tl.arange(0, E)
    valid_M1 = rows_M[:, None] < stop
    q_ME = q_TX.load([start, head * E])
    column = head // GROUP * E
    if window > 0:
        own = own + tl.maximum(start - own - window + 1, 0) // N * N
    top_M = tl.full([M], NEVER, tl.float32)
    sum_M = tl.zeros([M], tl.float32)
    acc_ME = tl.zeros([M, E], tl.float32)
    in_prefix = tl.cdiv(prefix_stop - prefix, N)
    steps = in_prefix + tl.cdiv(tl.minimum(start + M, stop) - own, N)
    for step in range(0, steps):
        first = tl.where(step < in_prefix, prefix + step * N, own + (step - in_prefix) * N)
        last = tl.where(step < in_prefix, prefix_stop, stop)
        cols_N = first + offs_N
        k_NE = k_TX.load([first, column])
        scores_MN, _ = _scores(q_ME, k_NE, scale, cap)
        seen_MN = (cols_N[None, :] <= rows_M[:, None]) & (cols_N[None, :] < last)
        if window > 0:
            gap = tl.where(step < in_prefix, tl.load(tile + 2) - prefix_stop, 0)
            seen_MN = seen_MN & (rows_M[:, None] - cols_N[None, :] - gap < window)
        scores_MN = tl.where(seen_MN, scores_MN * LOG2E, NEVER)
        new_top_M = tl.maximum(top_M, tl.max(scores_MN, 1))
        p_MN = tl.exp2(scores_MN - new_top_M[:, None])
        rescale_M = tl.exp2(top_M - new_top_M)
        sum_M = sum_M * rescale_M + tl.sum(p_MN, 1)
        v_NE = v_TX.load([first, column])
        acc_ME = tl.dot(p_MN.to(v_NE.dtype), v_NE, acc_ME * rescale_M[:, None])
        top_M = new_top_M
    out_ME = (acc_ME / sum_M[:, None]).to(out_ptr.dtype.element_ty)
    tl.store(out_ptr + rows_M[:, None] * (H * E) + head * E + offs_E, out_ME, mask=valid_M1)
    tl.store(lse_ptr + head * tokens + rows_M, top_M + tl.log2(sum_M), mask=rows_M < stop)


@triton.jit
def _probabilities(
    step, in_prefix, tile, stop, own, q_ME, dout_ME, lse_M, rows_M, k_TX, v_TX, column, scale,
    cap: tl.constexpr, window: tl.constexpr, N: tl.constexpr,
):  # fmt: skip
    """One tile of keys, the queries' probabilities, their gradients, and the slope of the cap."""
    prefix, prefix_stop = tl.load(tile + 3), tl.load(tile + 4)
    first = tl.where(step < in_prefix, prefix + step * N, own + (step - in_prefix) * N)
    last = tl.where(step < in_prefix, prefix_stop, stop)
    cols_N = first + tl.arange(0, N)
    k_NE = k_TX.load([first, column])
    v_NE = v_TX.load([first, column])
    scores_MN, slope_MN = _scores(q_ME, k_NE, scale, cap)
    seen_MN = (cols_N[None, :] <= rows_M[:, None]) & (cols_N[None, :] < last)
    if window > 0:
        gap = tl.where(step < in_prefix, tl.load(tile + 2) - prefix_stop, 0)
        seen_MN = seen_MN & (rows_M[:, None] - cols_N[None, :] - gap < window)
    p_MN = tl.where(seen_MN, tl.exp2(scores_MN * LOG2E - lse_M[:, None]), 0.0)
    return k_NE, p_MN, tl.dot(dout_ME, tl.trans(v_NE)), slope_MN


@triton.jit
def _query_gradient_kernel(
    q_TX, k_TX, v_TX, dout_TX, lse_ptr, delta_ptr, dq_ptr, tiles_ptr, scale, tokens,
    H: tl.constexpr, GROUP: tl.constexpr, E: tl.constexpr, cap: tl.constexpr, window: tl.constexpr,
    PARTS: tl.constexpr, M: tl.constexpr, N: tl.constexpr,
):  # fmt: skip
    """The gradient of queries, and delta, the mean of the probabilities' gradients, which that of keys needs too.

    FlashAttention takes delta from the output. That is rounded to 16 bits, and where one key has nearly all of a row's
    attention, the rounding is as large as what is left of the gradient; so a first pass over the keys sums it.
    """
    head = tl.program_id(0) % H
    part = tl.program_id(0) // H
    tile = tiles_ptr + (part // PARTS) * 5
    start = tl.load(tile) + (part % PARTS) * M
    stop, own, prefix, prefix_stop = (
        tl.load(tile + 1),
        tl.load(tile + 2),
        tl.load(tile + 3),
        tl.load(tile + 4),
    )
    if start >= stop:
        return
    rows_M, offs_E = start + tl.arange(0, M), tl.arange(0, E)
    valid_M, valid_M1 = rows_M < stop, rows_M[:, None] < stop
    q_ME = q_TX.load([start, head * E])
    dout_ME = dout_TX.load([start, head * E])
    lse_M = tl.load(lse_ptr + head * tokens + rows_M, mask=valid_M, other=float("inf"))
    column = head // GROUP * E
    if window > 0:
        own = own + tl.maximum(start - own - window + 1, 0) // N * N
    in_prefix = tl.cdiv(prefix_stop - prefix, N)
    steps = in_prefix + tl.cdiv(tl.minimum(start + M, stop) - own, N)
    delta_M = tl.zeros([M], tl.float32)
    for step in range(0, steps):
        _, p_MN, dp_MN, _ = _probabilities(
            step, in_prefix, tile, stop, own, q_ME, dout_ME, lse_M, rows_M, k_TX, v_TX, column, scale,
            cap, window, N,
        )  # fmt: skip
        delta_M += tl.sum(p_MN * dp_MN, 1)
    tl.store(delta_ptr + head * tokens + rows_M, delta_M, mask=valid_M)
    dq_ME = tl.zeros([M, E], tl.float32)
    for step in range(0, steps):
        k_NE, p_MN, dp_MN, slope_MN = _probabilities(
            step, in_prefix, tile, stop, own, q_ME, dout_ME, lse_M, rows_M, k_TX, v_TX, column, scale,
            cap, window, N,
        )  # fmt: skip
        dscores_MN = p_MN * (dp_MN - delta_M[:, None])
        if cap > 0:
            dscores_MN = dscores_MN * slope_MN
        dq_ME = tl.dot(dscores_MN.to(k_NE.dtype), k_NE, dq_ME)
    dq_ME = (dq_ME * scale).to(dq_ptr.dtype.element_ty)
    tl.store(dq_ptr + rows_M[:, None] * (H * E) + head * E + offs_E, dq_ME, mask=valid_M1)


@triton.jit
def _key_gradient_kernel(
    q_TX, k_TX, v_TX, dout_TX, lse_ptr, delta_ptr, dk_ptr, dv_ptr, tiles_ptr, scale, tokens,
    H: tl.constexpr, GROUP: tl.constexpr, E: tl.constexpr, cap: tl.constexpr, window: tl.constexpr,
    PARTS: tl.constexpr, N: tl.constexpr, M: tl.constexpr,
):  # fmt: skip
    K: tl.constexpr = H // GROUP
    kv_head = tl.program_id(0) % K
    part = tl.program_id(0) // K
    tile = tiles_ptr + (part // PARTS) * 5
    start = tl.load(tile) + (part % PARTS) * N
    stop, extra, extra_stop, shared_stop = (
        tl.load(tile + 1), tl.load(tile + 2), tl.load(tile + 3), tl.load(tile + 4)
    )  # fmt: skip
    if start >= stop:
        return
    cols_N, offs_M, offs_E = start + tl.arange(0, N), tl.arange(0, M), tl.arange(0, E)
    valid_N1 = cols_N[:, None] < stop
    k_NE = k_TX.load([start, kv_head * E])
    v_NE = v_TX.load([start, kv_head * E])
    dk_NE = tl.zeros([N, E], tl.float32)
    dv_NE = tl.zeros([N, E], tl.float32)
    own_stop = stop
    if window > 0:
        own_stop = tl.minimum(stop, start + N + window - 1)
    in_own = tl.cdiv(own_stop - start, M)
    steps = in_own + tl.where(start < shared_stop, tl.cdiv(extra_stop - extra, M), 0)
    for index in range(0, steps * GROUP):
        step, head = index % steps, kv_head * GROUP + index // steps
        first = tl.where(step < in_own, start + step * M, extra + (step - in_own) * M)
        last = tl.where(step < in_own, own_stop, extra_stop)
        visible = tl.where(step < in_own, stop, shared_stop)
        rows_M = first + offs_M
        inside_M = rows_M < last
        q_ME = q_TX.load([first, head * E])
        scores_NM, slope_NM = _scores(k_NE, q_ME, scale, cap)
        lse_M = tl.load(lse_ptr + head * tokens + rows_M, mask=inside_M, other=0.0)
        seen_NM = (
            (cols_N[:, None] <= rows_M[None, :]) & (rows_M[None, :] < last) & (cols_N[:, None] < visible)
        )
        if window > 0:
            gap = tl.where(step < in_own, 0, extra - shared_stop)
            seen_NM = seen_NM & (rows_M[None, :] - cols_N[:, None] - gap < window)
        p_NM = tl.where(seen_NM, tl.exp2(scores_NM * LOG2E - lse_M[None, :]), 0.0)
        dout_ME = dout_TX.load([first, head * E])
        dv_NE = tl.dot(p_NM.to(dout_ME.dtype), dout_ME, dv_NE)
        delta_M = tl.load(delta_ptr + head * tokens + rows_M, mask=inside_M, other=0.0)
        dscores_NM = p_NM * (tl.dot(v_NE, tl.trans(dout_ME)) - delta_M[None, :])
        if cap > 0:
            dscores_NM = dscores_NM * slope_NM
        dk_NE = tl.dot(dscores_NM.to(q_ME.dtype), q_ME, dk_NE)
    dk_NE = (dk_NE * scale).to(dk_ptr.dtype.element_ty)
    where = cols_N[:, None] * (K * E) + kv_head * E + offs_E
    tl.store(dk_ptr + where, dk_NE, mask=valid_N1)
    tl.store(dv_ptr + where, dv_NE.to(dv_ptr.dtype.element_ty), mask=valid_N1)


def _rows(x_THE: Tensor, rows: int) -> TensorDescriptor:
    """A tensor descriptor for blocks of rows of one head. Heads must be contiguous within a row."""
    T, heads, E = x_THE.shape
    flat_TX = x_THE.as_strided((T, heads * E), (x_THE.stride(0), 1))
    return TensorDescriptor.from_tensor(flat_TX, [rows, E])


def _side_by_side(x_THE: Tensor) -> Tensor:
    side_by_side = x_THE.stride(2) == 1 and x_THE.stride(1) == x_THE.shape[2] and x_THE.stride(0) % 8 == 0
    return x_THE if side_by_side else x_THE.contiguous()


def _grid(tiles_N5: Tensor, shape: KernelConfig, heads: int) -> tuple[int]:
    """The grid of one program per part of a tile and head; heads vary fastest, so that they share keys in cache."""
    return (len(tiles_N5) * (TILE // shape.own) * heads,)


def _flash(
    q_THE: Tensor, k_TKE: Tensor, v_TKE: Tensor, queries_N5: Tensor, keys_N5: Tensor,
    scale: float, softcap: float, window: int,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """The attention (T, H, E), and the base-2 log of each row's sum of exponentials (H, T).

    softcap and window are 0 for none. queries_N5, keys_N5: those of tokens.packing.Tiles.
    """
    T, H, E = q_THE.shape
    out_THE, lse_HT = q_THE.new_empty(T, H, E), q_THE.new_empty(H, T, dtype=torch.float32)
    shape = kernel_configs(E)[0]
    q_THE, k_TKE, v_TKE = map(_side_by_side, (q_THE, k_TKE, v_TKE))
    _forward_kernel[_grid(queries_N5, shape, H)](
        _rows(q_THE, shape.own), _rows(k_TKE, shape.step), _rows(v_TKE, shape.step),
        out_THE, lse_HT, queries_N5, scale, T, H, H // k_TKE.shape[1], E, softcap, window,
        TILE // shape.own, shape.own, shape.step, num_warps=shape.warps, num_stages=shape.stages,
    )  # fmt: skip
    return out_THE, lse_HT


def _flash_fake(q_THE, k_TKE, v_TKE, queries_N5, keys_N5, scale, softcap, window):
    T, H, E = q_THE.shape
    return q_THE.new_empty(T, H, E), q_THE.new_empty(H, T, dtype=torch.float32)


def _flash_backward(
    dout_THE: Tensor, q_THE: Tensor, k_TKE: Tensor, v_TKE: Tensor, lse_HT: Tensor,
    queries_N5: Tensor, keys_N5: Tensor, scale: float, softcap: float, window: int,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """The gradients of queries, keys and values."""
    (T, H, E), K = q_THE.shape, k_TKE.shape[1]
    dq_THE, dk_TKE, dv_TKE = q_THE.new_empty(T, H, E), k_TKE.new_empty(T, K, E), k_TKE.new_empty(T, K, E)
    q_THE, k_TKE, v_TKE, dout_THE = map(_side_by_side, (q_THE, k_TKE, v_TKE, dout_THE))
    delta_HT = torch.empty_like(lse_HT)
    _, shape, key_shape = kernel_configs(E)
    _query_gradient_kernel[_grid(queries_N5, shape, H)](
        _rows(q_THE, shape.own), _rows(k_TKE, shape.step), _rows(v_TKE, shape.step), _rows(dout_THE, shape.own),
        lse_HT, delta_HT, dq_THE, queries_N5, scale, T, H, H // K, E, softcap, window,
        TILE // shape.own, shape.own, shape.step, num_warps=shape.warps, num_stages=shape.stages,
    )  # fmt: skip
    shape = key_shape
    _key_gradient_kernel[_grid(keys_N5, shape, K)](
        _rows(q_THE, shape.step), _rows(k_TKE, shape.own), _rows(v_TKE, shape.own), _rows(dout_THE, shape.step),
        lse_HT, delta_HT, dk_TKE, dv_TKE, keys_N5, scale, T, H, H // K, E, softcap, window,
        TILE // shape.own, shape.own, shape.step, num_warps=shape.warps, num_stages=shape.stages,
    )  # fmt: skip
    return dq_THE, dk_TKE, dv_TKE


def _flash_backward_fake(dout_THE, q_THE, k_TKE, v_TKE, lse_HT, queries_N5, keys_N5, scale, softcap, window):
    return tuple(x.new_empty(x.shape) for x in (q_THE, k_TKE, v_TKE))


flash = define_operator("flash", _flash, _flash_fake)
flash_backward = define_operator("flash_backward", _flash_backward, _flash_backward_fake)


def _setup(ctx, inputs, output):
    ctx.set_materialize_grads(False)
    q_THE, k_TKE, v_TKE, queries_N5, keys_N5, *ctx.options = inputs
    ctx.save_for_backward(q_THE, k_TKE, v_TKE, queries_N5, keys_N5, output[1])


def _backward(ctx, dout_THE, _):
    q_THE, k_TKE, v_TKE, queries_N5, keys_N5, lse_HT = ctx.saved_tensors
    gradients = flash_backward(dout_THE, q_THE, k_TKE, v_TKE, lse_HT, queries_N5, keys_N5, *ctx.options)
    return *gradients, None, None, None, None, None


register_backward("flash", _backward, _setup)
