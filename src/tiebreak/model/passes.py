"""Passes over memory between the matrix products: FP8 codes of rows, a weight laid out anew, the gate of an MLP.

On a GPU by the kernels of `model.kernels`, where they turn out right there; elsewhere by torch.

Dimension letters: T tokens, X features, F features of an MLP, R ranks of the adapters, O outputs, I inputs.
"""

import logging
from collections.abc import Callable
from functools import cache
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

log = logging.getLogger(__name__)

LARGEST = 448.0
"""Of the FP8 codes."""
CODES = torch.float8_e4m3fn
Activation = Literal["silu", "gelu_tanh"]
Codes = tuple[Tensor, Tensor]
"""Rows of codes (T, X), and the scale of each (T, 1)."""


def quantise_rows(
    x_TX: Tensor, scale_X: Tensor | None = None, low_TR: Tensor | None = None, factor: Tensor | None = None
) -> Codes:
    """Rows of [x * scale_X, low * factor] as codes, and the scale of each row."""
    if x_TX.is_cuda and _kernels_work():
        from tiebreak.model import kernels

        return kernels.quantise_rows(x_TX, scale_X, low_TR, factor)
    return _quantise_rows(x_TX, scale_X, low_TR, factor)


def transposed(codes_OI: Tensor) -> Tensor:
    """The codes laid out the other way, which the product of a gradient needs."""
    if codes_OI.is_cuda and _kernels_work():
        from tiebreak.model import kernels

        return kernels.transposed(codes_OI)
    return codes_OI.t().contiguous()


def gate(both_TF: Tensor, activation: str) -> Tensor:
    """act(gate) * up of [gate, up] (T, 2 F): (T, F)."""
    if both_TF.is_cuda and _kernels_work():
        from tiebreak.model import kernels

        return kernels.gate(both_TF, activation)
    return _gate(both_TF, activation)


def gate_codes(both_TF: Tensor, activation: str) -> Codes:
    """act(gate) * up as codes, without a copy in 16 bits."""
    if both_TF.is_cuda and _kernels_work():
        from tiebreak.model import kernels

        return kernels.gate_codes(both_TF, activation)
    return _gate_codes(both_TF, activation)


def gate_gradient(
    dh_TF: Tensor, both_TF: Tensor, activation: str, scale_X: Tensor | None
) -> tuple[Tensor, Tensor, Codes | None]:
    """The gradient of [gate, up] (T, 2 F), act(gate) * up again, and, given scale_X, codes of gradient * scale_X."""
    if both_TF.is_cuda and _kernels_work():
        from tiebreak.model import kernels

        return kernels.gate_gradient(dh_TF, both_TF, activation, scale_X)
    return _gate_gradient(dh_TF, both_TF, activation, scale_X)


def _quantise_rows(
    x_TX: Tensor, scale_X: Tensor | None, low_TR: Tensor | None, factor: Tensor | None
) -> Codes:
    x_TX = x_TX.float() if scale_X is None else x_TX.float() * scale_X
    if low_TR is not None and factor is not None:
        x_TX = torch.cat([x_TX, low_TR.float() * factor], dim=1)
    scale_T1 = x_TX.abs().amax(1, keepdim=True).clamp(min=1e-12) / LARGEST
    return (x_TX / scale_T1).to(CODES), scale_T1


def _gate(both_TF: Tensor, activation: str) -> Tensor:
    gate_TF, up_TF = both_TF.chunk(2, 1)
    return _activate(gate_TF, activation) * up_TF


def _activate(gate_TF: Tensor, activation: str) -> Tensor:
    return F.silu(gate_TF) if activation == "silu" else F.gelu(gate_TF, approximate="tanh")


def _gate_codes(both_TF: Tensor, activation: str) -> Codes:
    return _quantise_rows(_gate(both_TF, activation), None, None, None)


def _gate_gradient(
    dh_TF: Tensor, both_TF: Tensor, activation: str, scale_X: Tensor | None
) -> tuple[Tensor, Tensor, Codes | None]:
    gate_TF, up_TF = both_TF.chunk(2, 1)
    if activation == "silu":
        dgate_TF = torch.ops.aten.silu_backward(dh_TF * up_TF, gate_TF)
    else:
        dgate_TF = torch.ops.aten.gelu_backward(dh_TF * up_TF, gate_TF, approximate="tanh")
    d_TF = torch.cat([dgate_TF, dh_TF * _activate(gate_TF, activation)], 1)
    codes = None if scale_X is None else _quantise_rows(d_TF, scale_X, None, None)
    return d_TF, _gate(both_TF, activation), codes


@cache
def _kernels_work() -> bool:
    """Whether the GPU's compiler makes of the kernels what torch makes; tried once, on small matrices."""
    try:
        wrong = [name for name, (found, expected) in _tried() if not _agree(found, expected)]
    except Exception as error:  # a compiler may raise anything
        log.warning("the small GPU kernels raise %s; going on with torch's own, which are slower", error)
        return False
    if wrong:
        log.warning(
            "the GPU kernels for %s differ from torch's own, which are used instead and are slower",
            ", ".join(wrong),
        )
    return not wrong


def _tried() -> list[tuple[str, tuple[list[Tensor], list[Tensor]]]]:
    from tiebreak.model import kernels

    generator = torch.Generator().manual_seed(0)
    x_TX, low_TR, dh_TF = (torch.randn(40, n, generator=generator).cuda().bfloat16() for n in (300, 24, 150))
    factor = torch.tensor(3.0, device="cuda")
    scale_X = torch.rand(300, generator=generator).cuda()
    tries: list[tuple[str, Callable[..., object], Callable[..., object], tuple[object, ...]]] = [
        ("FP8 codes", kernels.quantise_rows, _quantise_rows, (x_TX, None, low_TR, factor)),
        ("a transposed weight", kernels.transposed, lambda codes: codes.t(), (x_TX.to(CODES),)),
    ]
    for activation in ("silu", "gelu_tanh"):
        tries += [
            (activation, kernels.gate, _gate, (x_TX, activation)),
            (f"codes of {activation}", kernels.gate_codes, _gate_codes, (x_TX, activation)),
            (f"the gradient of {activation}", kernels.gate_gradient, _gate_gradient, (dh_TF, x_TX, activation, scale_X)),
        ]  # fmt: skip
    return [(name, (_tensors(ours(*given)), _tensors(theirs(*given)))) for name, ours, theirs, given in tries]


def _tensors(found: object) -> list[Tensor]:
    if isinstance(found, Tensor):
        return [found]
    return [t for part in found for t in _tensors(part)] if isinstance(found, tuple) else []


def _agree(found: list[Tensor], expected: list[Tensor]) -> bool:
    """Within rounding, in the Euclidean norm."""
    return all(
        bool((a.float() - b.float()).norm() < 0.02 * b.float().norm())
        for a, b in zip(found, expected, strict=True)
    )
