"""Frozen weights in NF4 (Dettmers et al. 2023, arXiv:2305.14314) by bitsandbytes' kernels.

Only its functions are used: its `Linear4bit` gives wrong gradients after an evaluation on CPUs with AVX512-BF16.
The scales of the blocks are stored in bf16 without a second quantisation: 4.25 bits per weight, not 4.13.
"""

import torch
from torch import Tensor

from tiebreak.errors import TiebreakError

BLOCK = 64


def is_encoded(tensor: Tensor) -> bool:
    """True for NF4 codes."""
    return tensor.dtype == torch.uint8


def encode(weight_OI: Tensor) -> tuple[Tensor, Tensor]:
    """Encode a weight: two codes per byte, and a scale per BLOCK weights. Raises TiebreakError without bitsandbytes."""
    try:
        import bitsandbytes
    except ImportError:
        raise TiebreakError(
            "precision nf4 needs bitsandbytes, which is not installed: pip install 'tiebreak[qlora]'"
        ) from None
    codes, state = bitsandbytes.functional.quantize_4bit(
        weight_OI.contiguous(), blocksize=BLOCK, quant_type="nf4"
    )
    return codes.flatten(), state.absmax.to(torch.bfloat16)


def decode(codes: Tensor, scales: Tensor, outputs: int, kind: torch.dtype) -> Tensor:
    """Decode codes to the weight (O, I)."""
    import bitsandbytes  # noqa: F401  registers the operator

    shape = [outputs, 2 * codes.numel() // outputs]
    weight_OI: Tensor = torch.ops.bitsandbytes.dequantize_4bit(
        codes[:, None], scales.float(), BLOCK, "nf4", shape, kind
    )
    return weight_OI
