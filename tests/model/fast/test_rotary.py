"""Tests of the rotary kernel against transformers' rotation: on a GPU, or on a CPU in Triton's interpreter."""

import pytest
import torch
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

pytestmark = pytest.mark.slow

rotary = pytest.importorskip(
    "tiebreak.model.fast.rotary", exc_type=ImportError, reason="Triton is not installed"
)

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


@pytest.mark.parametrize(("heads", "kv_heads", "size"), [(9, 3, 64), (4, 4, 32), (16, 2, 128), (2, 1, 256)])
def test_rotation_and_its_gradient_equal_those_of_transformers(heads: int, kv_heads: int, size: int) -> None:
    torch.manual_seed(0)
    tokens = 37  # no multiple of a program's
    qkv = torch.randn(tokens, (heads + 2 * kv_heads) * size, device=DEVICE, requires_grad=True)
    angle = torch.randn(tokens, size // 2, device=DEVICE).repeat(1, 2)
    cos, sin = angle.cos(), angle.sin()
    found = rotary.rotated(qkv, cos, sin, heads, kv_heads)
    q, k, v = torch.split(qkv, [heads * size, kv_heads * size, kv_heads * size], 1)
    q, k, v = (x.view(1, tokens, -1, size).transpose(1, 2) for x in (q, k, v))
    turned = [*apply_rotary_pos_emb(q, k, cos[None], sin[None]), v]
    expected = [x[0].transpose(0, 1) for x in turned]
    signs = [torch.randn_like(x) for x in expected]
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=2e-6, rtol=1e-5)
    (ours,) = torch.autograd.grad(found, qkv, signs)
    (theirs,) = torch.autograd.grad(expected, qkv, signs)
    torch.testing.assert_close(ours, theirs, atol=2e-6, rtol=1e-5)
