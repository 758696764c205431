"""Tests of the elementwise kernels against torch: on a GPU, or on a CPU in Triton's interpreter."""

import pytest
import torch

from tiebreak.model.fast import elementwise

pytestmark = pytest.mark.slow

kernels = pytest.importorskip(
    "tiebreak.model.fast.triton_kernels", exc_type=ImportError, reason="Triton is not installed"
)

ON_GPU = torch.cuda.is_available()
DEVICE = "cuda" if ON_GPU else "cpu"


def assert_same_codes(found: elementwise.Codes, expected: elementwise.Codes) -> None:
    torch.testing.assert_close(found[1].cpu(), expected[1], rtol=2e-5, atol=0)
    got, want = found[0].cpu().float(), expected[0].float()
    if ON_GPU:  # a value on the edge between two codes may fall to either side
        assert (got != want).float().mean() < 1e-3
        torch.testing.assert_close(got, want, rtol=1 / 8, atol=2**-9)
    else:  # the interpreter does not round to even, and drops the carry into a power of two
        known = want.abs().log2().frac() != 0
        torch.testing.assert_close(got[known], want[known], rtol=1 / 8, atol=2**-9)
        assert known.float().mean() > 0.7


@pytest.mark.parametrize("with_adapter", [False, True])
def test_quantised_rows_equal_torch(with_adapter: bool) -> None:
    torch.manual_seed(0)
    x = torch.randn(6, 300, dtype=torch.bfloat16) * torch.logspace(-3, 3, 6)[:, None].bfloat16()
    x[3] = 0
    scale = None if with_adapter else torch.rand(300)
    low, factor = (
        (torch.randn(6, 24, dtype=torch.bfloat16), torch.tensor(3.0)) if with_adapter else (None, None)
    )
    arguments = (x, scale, low, factor)
    expected, expected_scales = elementwise.quantise_rows(*arguments)
    codes, scales = kernels.quantise_rows(*(t if t is None else t.to(DEVICE) for t in arguments))
    assert_same_codes((codes, scales), (expected, expected_scales))


def test_a_matrix_of_codes_is_transposed() -> None:
    codes = torch.randint(0, 120, (200, 70), dtype=torch.uint8).view(elementwise.CODES)
    found = kernels.transposed(codes.to(DEVICE)).cpu()
    assert torch.equal(found.view(torch.uint8), codes.view(torch.uint8).t())


@pytest.mark.parametrize("gelu", [False, True])
@pytest.mark.parametrize("quantised", [False, True])
def test_gate_and_its_gradient_equal_torch(gelu: bool, quantised: bool) -> None:
    torch.manual_seed(0)
    both = torch.randn(5, 2 * 2100) * 3  # more than one block of a row
    dh = torch.randn(5, 2100 + 8)[:, :2100]  # rows that lie apart
    scale = torch.rand(2 * 2100) if quantised else None
    expected = elementwise.gate(both, gelu)
    found = kernels.gate(both.to(DEVICE), gelu).cpu()
    torch.testing.assert_close(found, expected, atol=2e-6, rtol=2e-5)
    codes, scales = kernels.gate_codes(both.to(DEVICE), gelu)
    assert_same_codes((codes, scales), elementwise.gate_codes(both, gelu))
    d, h, codes = elementwise.gate_gradient(dh, both, gelu, scale)
    scale_there = None if scale is None else scale.to(DEVICE)
    d_found, h_found, codes_found = kernels.gate_gradient(dh.to(DEVICE), both.to(DEVICE), gelu, scale_there)
    torch.testing.assert_close(d_found.cpu(), d, atol=2e-5, rtol=2e-5)  # fp32's rounding of parts up to 100
    torch.testing.assert_close(h_found.cpu(), h, atol=2e-6, rtol=2e-5)
    assert (codes is None) == (codes_found is None) == (not quantised)
    if codes is not None:
        assert_same_codes(codes_found, codes)


@pytest.mark.parametrize(
    "name", ["quantise_rows", "transposed", "gate", "gate_codes", "gate_gradient", "gate_gradient_codes"]
)
def test_the_check_before_use_finds_the_kernels_right(name: str) -> None:
    tried = list(elementwise._kernel_and_reference(name, DEVICE))
    tolerance = 0.02 if ON_GPU else 0.1  # the interpreter rounds codes in its own way
    assert tried
    for found, expected in tried:
        assert elementwise._agree(found, expected, tolerance)
        assert not elementwise._agree([2 * t.float() for t in found], expected, tolerance)
