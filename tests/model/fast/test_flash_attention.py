"""Tests of the attention kernels against a dense mask: on a GPU, or on a CPU in Triton's interpreter."""

import numpy as np
import pytest
import torch

from tiebreak.model.fast.kernel_variants import distance
from tiebreak.tokens.packing import Packed, pack

pytestmark = pytest.mark.slow

flash = pytest.importorskip(
    "tiebreak.model.fast.flash_attention", exc_type=ImportError, reason="Triton is not installed"
)

ON_GPU = torch.cuda.is_available()
DEVICE = "cuda" if ON_GPU else "cpu"
TYPE = torch.bfloat16 if ON_GPU else torch.float32
TOLERANCE = 2e-2 if ON_GPU else 1e-5


def two_orders(length: int, shared: int, seed: int) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    first, second = (rng.integers(0, 50, length).astype(np.int32) for _ in range(2))
    second[:shared], second[shared] = first[:shared], first[shared] + 1
    return [first, second]


def visible(packed: Packed, tokens: int, window: int) -> torch.Tensor:
    seen_TT = torch.zeros(tokens, tokens, dtype=torch.bool)
    for span in packed.spans:
        where = torch.cat(
            [torch.arange(span.shared_start, span.shared_stop), torch.arange(span.start, span.stop)]
        )
        gap_LL = torch.arange(len(where))[:, None] - torch.arange(len(where))
        mask_LL = (gap_LL >= 0) & ((gap_LL < window) if window else True)
        own = where >= span.start
        seen_TT[where[own][:, None], where[None]] = mask_LL[own]
    return seen_TT


def dense(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, seen: torch.Tensor, cap: float) -> torch.Tensor:
    k, v = (x.repeat_interleave(q.shape[1] // x.shape[1], 1) for x in (k, v))
    scores = torch.einsum("qhe,khe->hqk", q, k) * 0.3
    scores = cap * torch.tanh(scores / cap) if cap else scores
    return torch.einsum("hqk,khe->qhe", scores.masked_fill(~seen, -torch.inf).softmax(-1), v)


@pytest.mark.parametrize(
    ("heads", "kv_heads", "size", "cap", "window", "shared"),
    [(2, 1, 64, 0.0, 0, 40), (2, 2, 64, 5.0, 0, 0), (2, 1, 16, 5.0, 70, 33), (1, 1, 256, 5.0, 0, 20)],
)
def test_equals_a_dense_mask(
    heads: int, kv_heads: int, size: int, cap: float, window: int, shared: int
) -> None:
    documents = two_orders(150, shared, 1) + two_orders(30, min(shared, 20), 2)
    packed = pack(documents, 384)
    tokens, real = 384, packed.spans[-1].stop
    generator = torch.Generator().manual_seed(0)
    wide = torch.randn(tokens, (heads + 2 * kv_heads) * size, generator=generator)
    wide = wide.to(DEVICE, TYPE).requires_grad_()  # parts of one product, as the decoder hands them over
    parts = [
        x.unflatten(1, (-1, size)) for x in wide.split([heads * size, kv_heads * size, kv_heads * size], 1)
    ]
    out, _ = flash.flash(*parts, *(t.to(DEVICE) for t in vars(packed.layout).values()), 0.3, cap, window)
    upstream = torch.randn(real, heads, size, generator=generator).to(DEVICE)
    (gradient,) = torch.autograd.grad((out[:real].float() * upstream).sum(), wide)

    exact = [x.detach()[:real].double().requires_grad_() for x in parts]
    expected = dense(*exact, visible(packed, tokens, window)[:real, :real].to(DEVICE), cap)
    gradients = torch.autograd.grad((expected * upstream).sum(), exact)

    assert torch.isfinite(out).all(), "filling tokens must not spoil anything"
    assert torch.isfinite(gradient).all(), "filling tokens must not spoil anything"
    for got, want in zip(
        [out[:real], gradient[:real]],
        [expected, torch.cat([g.flatten(1) for g in gradients], 1)],
        strict=True,
    ):
        error = (got.double() - want).norm() / want.norm()
        assert error < TOLERANCE, f"relative error {error:.2e}"


def test_gradients_of_peaked_attention_are_as_exact_as_their_type() -> None:
    """Where one key has nearly all of a row's attention, the output's rounding must not be taken for a gradient."""
    kind, rounding = (torch.bfloat16, 2.0**-9) if ON_GPU else (torch.float16, 2.0**-12)
    packed = pack(two_orders(150, 40, 1), 384)
    real, generator = packed.spans[-1].stop, torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(384, heads, 64, generator=generator) for heads in (2, 1, 1))
    parts = [x.to(DEVICE, kind).requires_grad_() for x in (8 * q, k, v)]
    out, _ = flash.flash(*parts, *(t.to(DEVICE) for t in vars(packed.layout).values()), 0.3, 0.0, 0)
    signs = (torch.randint(0, 2, (real, 2, 64), generator=generator) * 2 - 1).to(DEVICE, kind)
    gradients = torch.autograd.grad(out[:real], parts, signs)

    exact = [x.detach()[:real].double().requires_grad_() for x in parts]
    expected = dense(*exact, visible(packed, 384, 0)[:real, :real].to(DEVICE), 0.0)
    for got, want in zip(gradients, torch.autograd.grad(expected, exact, signs.double()), strict=True):
        assert distance(got[:real], want) < 2 * rounding
