"""A frozen weight in FP8 (e4m3), held once, and products with it at twice the rate of 16 bits.

Each output feature of the weight has a scale; activations and gradients are quantised row by row as they come
(Micikevicius et al. 2022, arXiv:2209.05433). The weight has a few columns more than the layer has inputs: they
hold the adapter's B, so that adapter and frozen weight are one product, [x, x A^T] [W, B]^T.

Dimension letters: T tokens, I inputs, O outputs, R ranks of the adapters, J = I + R.
"""

import torch
from torch import Tensor

from tiebreak.model.passes import CODES, LARGEST, Codes, transposed

SMALLEST_FACTOR = 1 / 32


def is_code(tensor: Tensor) -> bool:
    return tensor.dtype == CODES


def encode(weight_OI: Tensor, codes_OI: Tensor, scale_O: Tensor) -> None:
    """Write a weight's codes and the scale of each output feature; they may lie on another device."""
    for start in range(0, len(weight_OI), 4096):  # one block in fp32 at a time
        rows = slice(start, start + 4096)
        block = weight_OI[rows].float()
        scale_S = block.abs().amax(1).clamp(min=1e-12) / LARGEST
        codes_OI[rows] = (block / scale_S[:, None]).to(CODES)
        scale_O[rows] = scale_S


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


def product(x: Codes, codes_OJ: Tensor, scale_O: Tensor, kind: torch.dtype) -> Tensor:
    """[x, low] [W, B]^T (T, O), of rows (T, J) as `passes.quantise_rows` makes them."""
    q_TJ, scale_T1 = x
    if q_TJ.is_cuda:
        return torch._scaled_mm(
            q_TJ, codes_OJ.t(), scale_a=scale_T1, scale_b=scale_O[None], out_dtype=kind, use_fast_accum=True
        )
    return ((q_TJ.float() @ codes_OJ.float().t()) * scale_T1 * scale_O).to(kind)


def input_gradient(dy: Codes, codes_OJ: Tensor, kind: torch.dtype) -> Tensor:
    """Dy [W, B factor^-1] (T, J), of rows (T, O) that were multiplied by the scales of W before they became codes."""
    codes_JO = transposed(codes_OJ)
    ones_J = torch.ones(len(codes_JO), dtype=torch.float32, device=codes_JO.device)
    return product(dy, codes_JO, ones_J, kind)
