"""Frozen weights in FP8 (e4m3), and matrix products with them at twice the rate of 16 bits.

Each output feature of the weight has a scale; activations and gradients are quantised row by row
(Micikevicius et al. 2022, arXiv:2209.05433). The weight has additional columns for the adapter's B, so that adapter
and frozen weight are one product, [x, x A^T] [W, B]^T.

Dimension letters: T tokens, I inputs, O outputs, R ranks of the adapters, J = I + R.
"""

import torch
from torch import Tensor

from tiebreak.model.fast.elementwise import CODES, MAX_CODE, Codes, transposed

MIN_FACTOR = 1 / 32


def is_encoded(tensor: Tensor) -> bool:
    """True for FP8 codes."""
    return tensor.dtype == CODES


def encode(weight_OI: Tensor, codes_OI: Tensor, scale_O: Tensor) -> None:
    """Write a weight's codes and the scale of each output feature, which may be on another device."""
    for start in range(0, len(weight_OI), 4096):  # one block in fp32 at a time
        rows = slice(start, start + 4096)
        block = weight_OI[rows].float()
        scale_S = block.abs().amax(1).clamp(min=1e-12) / MAX_CODE
        codes_OI[rows] = (block / scale_S[:, None]).to(CODES)
        scale_O[rows] = scale_S


@torch.no_grad()
def write_adapter(
    codes_SJ: Tensor, rows: slice, scale_O: Tensor, factor: Tensor, b_OR: Tensor, inputs: int
) -> None:
    """Write the adapter's B (O, R) into the last columns, divided by `factor`, which is set here.

    codes_SJ: those of the outputs `rows`, where a process holds only some of them.

    x A^T is multiplied by `factor`. It keeps a large B in range, and a small one above the smallest code, without a
    synchronisation with the host.
    """
    ratio_OR = b_OR / scale_O[:, None]
    factor.copy_((ratio_OR.abs().max() / MAX_CODE).clamp(min=MIN_FACTOR))
    codes_SJ[:, inputs:] = (ratio_OR[rows] / factor).to(CODES)


def matmul(x: Codes, codes_OJ: Tensor, scale_O: Tensor, kind: torch.dtype) -> Tensor:
    """The product [x, low] [W, B]^T (T, O), of rows (T, J) from `elementwise.quantise_rows`."""
    q_TJ, scale_T1 = x
    if q_TJ.is_cuda:
        return torch._scaled_mm(
            q_TJ, codes_OJ.t(), scale_a=scale_T1, scale_b=scale_O[None], out_dtype=kind, use_fast_accum=True
        )
    return ((q_TJ.float() @ codes_OJ.float().t()) * scale_T1 * scale_O).to(kind)


def input_gradient(dy: Codes, codes_OJ: Tensor, kind: torch.dtype) -> Tensor:
    """The gradient dy [W, B / factor] (T, J), of rows (T, O) that were scaled by the scales of W before quantisation."""
    codes_JO = transposed(codes_OJ)
    ones_J = torch.ones(len(codes_JO), dtype=torch.float32, device=codes_JO.device)
    return matmul(dy, codes_JO, ones_J, kind)
