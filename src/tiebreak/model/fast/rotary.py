"""Rotary embeddings of queries and keys, read from the fused product of queries, keys and values.

One pass over memory forward and one backward. torch.compile makes one kernel of the rotation's backward and the
concatenation behind it, which took seven times as long as its bytes need on an H200 (docs/speed.md).

Dimension letters: T tokens, X features of queries, keys and values side by side, H heads, K key-value heads, E head
size, N heads of a program, F half of a head.
"""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls, allow-untyped-decorators

import triton
import triton.language as tl
from torch import Tensor

from tiebreak.model.fast.custom_op import define_operator, register_backward

ELEMENTS = 4096
"""Elements of a program: the heads of a few tokens."""


@triton.jit
def _rotary_kernel(
    qkv_ptr, q_ptr, k_ptr, v_ptr, cos_ptr, sin_ptr, tokens,
    H: tl.constexpr, K: tl.constexpr, E: tl.constexpr, N: tl.constexpr, BACKWARD: tl.constexpr,
):  # fmt: skip
    """Forward: q, k and v from qkv. Backward: the gradient of qkv from those of q, k and v."""
    F: tl.constexpr = E // 2
    heads: tl.constexpr = H + 2 * K
    place_N1 = (tl.program_id(0).to(tl.int64) * N + tl.arange(0, N))[:, None]
    half_1F = tl.arange(0, F)[None, :]
    token_N1, head_N1 = place_N1 // heads, place_N1 % heads
    inside_N1 = token_N1 < tokens
    is_q_N1, is_v_N1 = inside_N1 & (head_N1 < H), inside_N1 & (head_N1 >= H + K)
    is_k_N1 = inside_N1 & (head_N1 >= H) & (head_N1 < H + K)
    at_qkv, at_q = place_N1 * E + half_1F, (token_N1 * H + head_N1) * E + half_1F
    at_k, at_v = (token_N1 * K + head_N1 - H) * E + half_1F, (token_N1 * K + head_N1 - H - K) * E + half_1F
    turned_N1 = is_q_N1 | is_k_N1  # values are copied
    at_angle = token_N1 * E + half_1F
    cos_low = tl.load(cos_ptr + at_angle, mask=turned_N1, other=1.0).to(tl.float32)
    cos_high = tl.load(cos_ptr + at_angle + F, mask=turned_N1, other=1.0).to(tl.float32)
    sin_low = tl.load(sin_ptr + at_angle, mask=turned_N1, other=0.0).to(tl.float32)
    sin_high = tl.load(sin_ptr + at_angle + F, mask=turned_N1, other=0.0).to(tl.float32)
    kind = q_ptr.dtype.element_ty
    if BACKWARD:
        low = _of_three(q_ptr + at_q, k_ptr + at_k, v_ptr + at_v, is_q_N1, is_k_N1, is_v_N1)
        high = _of_three(q_ptr + at_q + F, k_ptr + at_k + F, v_ptr + at_v + F, is_q_N1, is_k_N1, is_v_N1)
        tl.store(qkv_ptr + at_qkv, (low * cos_low + high * sin_high).to(kind), mask=inside_N1)
        tl.store(qkv_ptr + at_qkv + F, (high * cos_high - low * sin_low).to(kind), mask=inside_N1)
    else:
        low = tl.load(qkv_ptr + at_qkv, mask=inside_N1, other=0.0).to(tl.float32)
        high = tl.load(qkv_ptr + at_qkv + F, mask=inside_N1, other=0.0).to(tl.float32)
        out_low = (low * cos_low - high * sin_low).to(kind)
        out_high = (high * cos_high + low * sin_high).to(kind)
        tl.store(q_ptr + at_q, out_low, mask=is_q_N1)
        tl.store(q_ptr + at_q + F, out_high, mask=is_q_N1)
        tl.store(k_ptr + at_k, out_low, mask=is_k_N1)
        tl.store(k_ptr + at_k + F, out_high, mask=is_k_N1)
        tl.store(v_ptr + at_v, out_low, mask=is_v_N1)
        tl.store(v_ptr + at_v + F, out_high, mask=is_v_N1)


@triton.jit
def _of_three(at_q, at_k, at_v, is_q, is_k, is_v):
    """Halves of heads from whichever of three tensors holds them, in fp32."""
    of_q, of_k = tl.load(at_q, mask=is_q, other=0.0), tl.load(at_k, mask=is_k, other=0.0)
    return (of_q + of_k + tl.load(at_v, mask=is_v, other=0.0)).to(tl.float32)


def _launch(
    qkv_TX: Tensor,
    q_THE: Tensor,
    k_TKE: Tensor,
    v_TKE: Tensor,
    cos_TE: Tensor,
    sin_TE: Tensor,
    backward: bool,
) -> None:
    (T, H, E), K = q_THE.shape, k_TKE.shape[1]
    heads = ELEMENTS // E
    grid = (triton.cdiv(T * (H + 2 * K), heads),)
    _rotary_kernel[grid](
        qkv_TX, q_THE, k_TKE, v_TKE, cos_TE.contiguous(), sin_TE.contiguous(), T, H, K, E, heads, backward, num_warps=4
    )  # fmt: skip


def _rotary(
    qkv_TX: Tensor, cos_TE: Tensor, sin_TE: Tensor, heads: int, kv_heads: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Rotated queries (T, H, E) and keys (T, K, E), and the values (T, K, E)."""
    q_THE, k_TKE, v_TKE = _rotary_fake(qkv_TX, cos_TE, sin_TE, heads, kv_heads)
    _launch(qkv_TX.contiguous(), q_THE, k_TKE, v_TKE, cos_TE, sin_TE, backward=False)
    return q_THE, k_TKE, v_TKE


def _rotary_fake(qkv_TX, cos_TE, sin_TE, heads, kv_heads):
    T, E = cos_TE.shape
    return qkv_TX.new_empty(T, heads, E), qkv_TX.new_empty(T, kv_heads, E), qkv_TX.new_empty(T, kv_heads, E)


def _rotary_backward(
    dq_THE: Tensor, dk_TKE: Tensor, dv_TKE: Tensor, cos_TE: Tensor, sin_TE: Tensor
) -> Tensor:
    """The gradient of the fused product (T, X)."""
    dqkv_TX: Tensor = _rotary_backward_fake(dq_THE, dk_TKE, dv_TKE, cos_TE, sin_TE)
    dq_THE, dk_TKE, dv_TKE = dq_THE.contiguous(), dk_TKE.contiguous(), dv_TKE.contiguous()
    _launch(dqkv_TX, dq_THE, dk_TKE, dv_TKE, cos_TE, sin_TE, backward=True)
    return dqkv_TX


def _rotary_backward_fake(dq_THE, dk_TKE, dv_TKE, cos_TE, sin_TE):
    (T, H, E), K = dq_THE.shape, dk_TKE.shape[1]
    return dq_THE.new_empty(T, (H + 2 * K) * E)


rotary = define_operator("rotary", _rotary, _rotary_fake)
rotary_backward = define_operator("rotary_backward", _rotary_backward, _rotary_backward_fake)


def _setup(ctx, inputs, output):
    _, cos_TE, sin_TE, _, _ = inputs
    ctx.save_for_backward(cos_TE, sin_TE)


def _gradient(ctx, dq_THE, dk_TKE, dv_TKE):
    return rotary_backward(dq_THE, dk_TKE, dv_TKE, *ctx.saved_tensors), None, None, None, None


register_backward("rotary", _gradient, _setup)


def rotated(
    qkv_TX: Tensor, cos_TE: Tensor, sin_TE: Tensor, heads: int, kv_heads: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Rotated queries (T, H, E) and keys (T, K, E) in the type of qkv (T, X), and the values (T, K, E).

    cos_TE, sin_TE: as transformers' decoders compute them, both halves alike. The rotation is that of
    Su et al. 2021 (arXiv:2104.09864) with the halves of a head as pairs, computed in fp32 and rounded once.
    """
    result: tuple[Tensor, Tensor, Tensor] = rotary(qkv_TX, cos_TE, sin_TE, heads, kv_heads)
    return result
