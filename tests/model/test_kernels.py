"""The small kernels against torch: on a GPU, or in Triton's interpreter on a CPU that has Triton."""

import pytest
import torch

from tiebreak.model import fp8

kernels = pytest.importorskip(
    "tiebreak.model.kernels", exc_type=ImportError, reason="Triton is not installed"
)

ON_GPU = torch.cuda.is_available()
DEVICE = "cuda" if ON_GPU else "cpu"


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
    expected, expected_scales = fp8.quantise_rows(*arguments)
    codes, scales = kernels.quantise_rows(*(t if t is None else t.to(DEVICE) for t in arguments))
    torch.testing.assert_close(scales.cpu(), expected_scales, rtol=1e-6, atol=0)
    got, want = codes.cpu().float(), expected.float()
    if not ON_GPU:  # the interpreter does not round to even, and drops the carry into a power of two
        known = want.abs().log2().frac() != 0
        torch.testing.assert_close(got[known], want[known], rtol=1 / 8, atol=2**-9)
        assert known.float().mean() > 0.7
    else:
        assert torch.equal(got, want)


def test_a_matrix_of_codes_is_laid_out_the_other_way() -> None:
    codes = torch.randint(0, 120, (200, 70), dtype=torch.uint8).view(fp8.CODES)
    found = kernels.transposed(codes.to(DEVICE)).cpu()
    assert torch.equal(found.view(torch.uint8), codes.view(torch.uint8).t())
