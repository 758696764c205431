"""A frozen weight in FP8 (e4m3), held once, and products with it at twice the rate of 16 bits.

Each output feature of the weight has a scale; activations and gradients are quantised row by row as they come
(Micikevicius et al. 2022, arXiv:2209.05433). The weight has a few columns more than the layer has inputs: they
hold the adapter's B, so that adapter and frozen weight are one product, [x, x A^T] [W, B]^T.

Dimension letters: T tokens, I inputs, O outputs, R ranks of the adapters, J = I + R.
"""

import logging
from functools import cache

import torch
from torch import Tensor

log = logging.getLogger(__name__)

LARGEST = 448.0
SMALLEST_FACTOR = 1 / 32
CODES = torch.float8_e4m3fn


def encode(weight_OI: Tensor, codes_OI: Tensor, scale_O: Tensor) -> None:
    """Write a weight's codes and the scale of each output feature."""
    for start in range(0, len(weight_OI), 4096):  # one block in fp32 at a time
        rows = slice(start, start + 4096)
        block = weight_OI[rows].float()
        scale_O[rows] = block.abs().amax(1).clamp(min=1e-12) / LARGEST
        codes_OI[rows] = (block / scale_O[rows, None]).to(CODES)


@torch.no_grad()
def embed(codes_SJ: Tensor, rows: slice, scale_O: Tensor, factor: Tensor, b_OR: Tensor, inputs: int) -> None:
    """Write the adapter's B (O, R) into the last columns, divided by `factor`, which is chosen to fit.

    codes_SJ: those of the outputs `rows`, where a process holds only some of them.

    x A^T is multiplied by `factor` in turn. It keeps a large B in range, and a small one above the smallest
    code, without a step on the host.
    """
    ratio_OR = b_OR / scale_O[:, None]
    factor.copy_((ratio_OR.abs().max() / LARGEST).clamp(min=SMALLEST_FACTOR))
    codes_SJ[:, inputs:] = (ratio_OR[rows] / factor).to(CODES)


def product(x_TI: Tensor, low_TR: Tensor, codes_OJ: Tensor, scale_O: Tensor, factor: Tensor) -> Tensor:
    """[x, low] [W, B]^T in the type of x: (T, O)."""
    q_TJ, scale_T1 = quantise_rows(x_TI, None, low_TR, factor)
    return _scaled_product(q_TJ, scale_T1, codes_OJ, scale_O, x_TI.dtype)


def input_gradient(dy_TO: Tensor, codes_OJ: Tensor, scale_O: Tensor) -> Tensor:
    """Dy [W, B factor^-1] in the type of dy: (T, J). The scales of W go into dy before it is quantised."""
    q_TO, scale_T1 = quantise_rows(dy_TO, scale_O)
    codes_JO = transposed(codes_OJ)
    ones_J = torch.ones(len(codes_JO), dtype=torch.float32, device=dy_TO.device)
    return _scaled_product(q_TO, scale_T1, codes_JO, ones_J, dy_TO.dtype)


def quantise_rows(
    x_TX: Tensor, scale_X: Tensor | None = None, low_TR: Tensor | None = None, factor: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Rows of [x * scale_X, low * factor] as codes, and the scale of each row (T, 1)."""
    if x_TX.is_cuda and _kernels_work():
        from tiebreak.model import kernels

        return kernels.quantise_rows(x_TX, scale_X, low_TR, factor)
    return _quantise_rows(x_TX, scale_X, low_TR, factor)


def _quantise_rows(
    x_TX: Tensor, scale_X: Tensor | None, low_TR: Tensor | None, factor: Tensor | None
) -> tuple[Tensor, Tensor]:
    x_TX = x_TX.float() if scale_X is None else x_TX.float() * scale_X
    if low_TR is not None and factor is not None:
        x_TX = torch.cat([x_TX, low_TR.float() * factor], dim=1)
    scale_T1 = x_TX.abs().amax(1, keepdim=True).clamp(min=1e-12) / LARGEST
    return (x_TX / scale_T1).to(CODES), scale_T1


def transposed(codes_OI: Tensor) -> Tensor:
    """The codes laid out the other way, which the product of a gradient needs."""
    if codes_OI.is_cuda and _kernels_work():
        from tiebreak.model import kernels

        return kernels.transposed(codes_OI)
    return codes_OI.t().contiguous()


@cache
def _kernels_work() -> bool:
    """Whether the GPU's compiler makes of the kernels what torch makes; tried once, on a small matrix."""
    generator = torch.Generator().manual_seed(0)
    x_TX, low_TR = (torch.randn(40, n, generator=generator).cuda().bfloat16() for n in (300, 24))
    factor = torch.tensor(3.0, device="cuda")
    expected, expected_T1 = _quantise_rows(x_TX, None, low_TR, factor)
    try:
        from tiebreak.model import kernels

        codes, scale_T1 = kernels.quantise_rows(x_TX, None, low_TR, factor)
        turned = kernels.transposed(codes)
    except Exception as error:  # a compiler may raise anything
        log.warning("the FP8 kernels raise %s; going on with torch's own, which are slower", error)
        return False
    difference = (codes.float() - expected.float()).norm() / expected.float().norm()
    agree = torch.allclose(scale_T1, expected_T1, rtol=1e-5) and torch.equal(
        turned.float(), codes.float().t()
    )
    if difference > 0.01 or not agree:
        log.warning("the FP8 kernels differ from torch's own, which are used instead and are slower")
        return False
    return True


def _scaled_product(
    q_TX: Tensor, scale_T1: Tensor, codes_OX: Tensor, scale_O: Tensor, kind: torch.dtype
) -> Tensor:
    if q_TX.is_cuda:
        return torch._scaled_mm(
            q_TX, codes_OX.t(), scale_a=scale_T1, scale_b=scale_O[None], out_dtype=kind, use_fast_accum=True
        )
    return ((q_TX.float() @ codes_OX.float().t()) * scale_T1 * scale_O).to(kind)
