"""Passes over memory between the matrix products: FP8 codes of rows, a weight laid out anew, the gate of an MLP.

On a GPU by the kernels of `model.kernels`, where they turn out right there; elsewhere by torch.

Dimension letters: T tokens, X features, F features of an MLP, G = 2 F of its gate and up side by side, R ranks of the
adapters, O outputs, I inputs. gelu: the activation, GELU by tanh, or else SiLU.
"""

import logging
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

log = logging.getLogger(__name__)

LARGEST = 448.0
"""Of the FP8 codes."""
CODES = torch.float8_e4m3fn
Codes = tuple[Tensor, Tensor]
"""Rows of codes (T, X), and the scale of each (T, 1)."""


def quantise_rows(
    x_TX: Tensor, scale_X: Tensor | None = None, low_TR: Tensor | None = None, factor: Tensor | None = None
) -> Codes:
    """Rows of [x * scale_X, low * factor] as codes, and the scale of each row."""
    kernels = _kernels("quantise_rows", x_TX)
    return (
        kernels.quantise_rows(x_TX, scale_X, low_TR, factor)
        if kernels
        else _quantise_rows(x_TX, scale_X, low_TR, factor)
    )


def transposed(codes_OI: Tensor) -> Tensor:
    """The codes laid out the other way, which the product of a gradient needs."""
    kernels = _kernels("transposed", codes_OI)
    return kernels.transposed(codes_OI) if kernels else codes_OI.t().contiguous()


def gate(gate_up_TG: Tensor, gelu: bool) -> Tensor:
    """act(gate) * up of [gate, up] (T, 2 F): (T, F)."""
    kernels = _kernels("gate", gate_up_TG)
    return kernels.gate(gate_up_TG, gelu) if kernels else _gate(gate_up_TG, gelu)


def gate_codes(gate_up_TG: Tensor, gelu: bool) -> Codes:
    """act(gate) * up as codes, without a copy in 16 bits."""
    kernels = _kernels("gate_codes", gate_up_TG)
    return kernels.gate_codes(gate_up_TG, gelu) if kernels else _gate_codes(gate_up_TG, gelu)


def gate_gradient(
    dh_TF: Tensor, gate_up_TG: Tensor, gelu: bool, scale_X: Tensor | None
) -> tuple[Tensor, Tensor, Codes | None]:
    """The gradient of [gate, up] (T, 2 F), act(gate) * up again, and, given scale_X, codes of gradient * scale_X."""
    name = "gate_gradient" if scale_X is None else "gate_gradient_codes"
    kernels = _kernels(name, gate_up_TG)
    best = kernels.gate_gradient if kernels else _gate_gradient
    return best(dh_TF, gate_up_TG, gelu, scale_X)


def _quantise_rows(
    x_TX: Tensor, scale_X: Tensor | None, low_TR: Tensor | None, factor: Tensor | None
) -> Codes:
    x_TX = x_TX.float() if scale_X is None else x_TX.float() * scale_X
    if low_TR is not None and factor is not None:
        x_TX = torch.cat([x_TX, low_TR.float() * factor], dim=1)
    scale_T1 = x_TX.abs().amax(1, keepdim=True).clamp(min=1e-12) / LARGEST
    return (x_TX / scale_T1).to(CODES), scale_T1


def _gate(gate_up_TG: Tensor, gelu: bool) -> Tensor:
    gate_TF, up_TF = gate_up_TG.chunk(2, 1)
    return activate(gate_TF, gelu) * up_TF


def activate(gate_TF: Tensor, gelu: bool) -> Tensor:
    """The gate's activation, by torch."""
    return nn.functional.gelu(gate_TF, approximate="tanh") if gelu else nn.functional.silu(gate_TF)


def _gate_codes(gate_up_TG: Tensor, gelu: bool) -> Codes:
    return _quantise_rows(_gate(gate_up_TG, gelu), None, None, None)


def _gate_gradient(
    dh_TF: Tensor, gate_up_TG: Tensor, gelu: bool, scale_X: Tensor | None
) -> tuple[Tensor, Tensor, Codes | None]:
    gate_TF, up_TF = gate_up_TG.chunk(2, 1)
    if gelu:
        dgate_TF = torch.ops.aten.gelu_backward(dh_TF * up_TF, gate_TF, approximate="tanh")
    else:
        dgate_TF = torch.ops.aten.silu_backward(dh_TF * up_TF, gate_TF)
    d_TG = torch.cat([dgate_TF, dh_TF * activate(gate_TF, gelu)], 1)
    codes = None if scale_X is None else _quantise_rows(d_TG, scale_X, None, None)
    return d_TG, _gate(gate_up_TG, gelu), codes


def _kernels(name: str, x: Tensor) -> Any:
    """`model.kernels`, where x is on a GPU and the kernel of that name is right there; None elsewhere."""
    if not (x.is_cuda and _works(name)):
        return None
    from tiebreak.model import kernels

    return kernels


@cache
def _works(name: str) -> bool:
    """Whether the GPU's compiler makes of a kernel what torch makes; tried once, on small matrices."""
    try:
        right = all(_agree(found, expected) for found, expected in _tried(name, "cuda"))
    except Exception as error:  # a compiler may raise anything
        log.warning("the GPU kernel %s raises %s; going on with torch's own, which is slower", name, error)
        return False
    if not right:
        log.warning("the GPU kernel %s differs from torch's own, which is used instead and is slower", name)
    return right


def _tried(name: str, device: str) -> Iterator[tuple[list[Tensor], list[Tensor]]]:
    """What the kernel makes of random rows, and what torch makes of them."""
    from tiebreak.model import kernels

    generator = torch.Generator().manual_seed(0)
    x_TX, low_TR, dh_TF = (
        torch.randn(40, n, generator=generator).to(device).bfloat16() for n in (300, 24, 150)
    )
    scale_X, factor = torch.rand(300, generator=generator).to(device), torch.tensor(3.0, device=device)
    tries: dict[str, tuple[Callable[..., object], Callable[..., object], list[tuple[object, ...]]]] = {
        "quantise_rows": (kernels.quantise_rows, _quantise_rows, [(x_TX, scale_X, None, None), (x_TX, None, low_TR, factor)]),
        "transposed": (kernels.transposed, torch.t, [(x_TX.to(CODES),)]),
        "gate": (kernels.gate, _gate, [(x_TX, False), (x_TX, True)]),
        "gate_codes": (kernels.gate_codes, _gate_codes, [(x_TX, False), (x_TX, True)]),
        "gate_gradient": (
            kernels.gate_gradient, _gate_gradient, [(dh_TF, x_TX, False, None), (dh_TF, x_TX, True, None)]
        ),
        "gate_gradient_codes": (
            kernels.gate_gradient, _gate_gradient, [(dh_TF, x_TX, False, scale_X), (dh_TF, x_TX, True, scale_X)]
        ),
    }  # fmt: skip
    ours, theirs, inputs = tries[name]
    for given in inputs:
        yield _tensors(ours(*given)), _tensors(theirs(*given))


def _tensors(found: object) -> list[Tensor]:
    if isinstance(found, Tensor):
        return [found]
    return [t for part in found for t in _tensors(part)] if isinstance(found, tuple) else []


def _agree(found: list[Tensor], expected: list[Tensor], tolerance: float = 0.02) -> bool:
    """Within rounding, relative in the Euclidean norm."""
    return all(
        bool((a.float() - b.float()).norm() < tolerance * b.float().norm())
        for a, b in zip(found, expected, strict=True)
    )
