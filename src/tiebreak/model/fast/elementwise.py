"""Fused elementwise operations between matrix products: FP8 quantisation of rows, transposition, the gate of an MLP.

On a GPU by the kernels of `model.fast.triton_kernels` if they pass a check there; elsewhere by torch.

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

MAX_CODE = 448.0
"""The largest FP8 code."""
CODES = torch.float8_e4m3fn
Codes = tuple[Tensor, Tensor]
"""FP8 codes of rows (T, X), and the scale of each row (T, 1)."""


def quantise_rows(
    x_TX: Tensor, scale_X: Tensor | None = None, low_TR: Tensor | None = None, factor: Tensor | None = None
) -> Codes:
    """Quantise rows of [x * scale_X, low * factor] to FP8 with a scale per row."""
    kernels = _kernels("quantise_rows", x_TX)
    return (
        kernels.quantise_rows(x_TX, scale_X, low_TR, factor)
        if kernels
        else _quantise_rows(x_TX, scale_X, low_TR, factor)
    )


def transposed(codes_OI: Tensor) -> Tensor:
    """The transposed codes, contiguous, as the product of a gradient needs them."""
    kernels = _kernels("transposed", codes_OI)
    return kernels.transposed(codes_OI) if kernels else codes_OI.t().contiguous()


def gate(gate_up_TG: Tensor, gelu: bool) -> Tensor:
    """act(gate) * up of [gate, up] (T, 2 F): (T, F)."""
    kernels = _kernels("gate", gate_up_TG)
    return kernels.gate(gate_up_TG, gelu) if kernels else _gate(gate_up_TG, gelu)


def gate_codes(gate_up_TG: Tensor, gelu: bool) -> Codes:
    """act(gate) * up as FP8 codes, without a copy in 16 bits."""
    kernels = _kernels("gate_codes", gate_up_TG)
    return kernels.gate_codes(gate_up_TG, gelu) if kernels else _gate_codes(gate_up_TG, gelu)


def gate_gradient(
    dh_TF: Tensor, gate_up_TG: Tensor, gelu: bool, scale_X: Tensor | None
) -> tuple[Tensor, Tensor, Codes | None]:
    """The gradient of [gate, up] (T, 2 F), recomputed act(gate) * up, and, given scale_X, codes of gradient * scale_X."""
    name = "gate_gradient" if scale_X is None else "gate_gradient_codes"
    kernels = _kernels(name, gate_up_TG)
    implementation = kernels.gate_gradient if kernels else _gate_gradient
    return implementation(dh_TF, gate_up_TG, gelu, scale_X)


def _quantise_rows(
    x_TX: Tensor, scale_X: Tensor | None, low_TR: Tensor | None, factor: Tensor | None
) -> Codes:
    x_TX = x_TX.float() if scale_X is None else x_TX.float() * scale_X
    if low_TR is not None and factor is not None:
        x_TX = torch.cat([x_TX, low_TR.float() * factor], dim=1)
    scale_T1 = x_TX.abs().amax(1, keepdim=True).clamp(min=1e-12) / MAX_CODE
    return (x_TX / scale_T1).to(CODES), scale_T1


def _gate(gate_up_TG: Tensor, gelu: bool) -> Tensor:
    gate_TF, up_TF = gate_up_TG.chunk(2, 1)
    return activate(gate_TF, gelu) * up_TF


def activate(gate_TF: Tensor, gelu: bool) -> Tensor:
    """The gate's activation by torch."""
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
    """The module `triton_kernels` if x is on a GPU and the kernel of that name is correct there; otherwise None."""
    if not (x.is_cuda and _is_correct(name)):
        return None
    from tiebreak.model.fast import triton_kernels

    return triton_kernels


@cache
def _is_correct(name: str) -> bool:
    """True if a kernel agrees with torch on this GPU; checked once, on small matrices."""
    try:
        is_right = all(_agree(actual, expected) for actual, expected in _kernel_and_reference(name, "cuda"))
    except Exception as error:  # a compiler may raise anything
        log.warning("the GPU kernel %s raises %s; going on with torch's own, which is slower", name, error)
        return False
    if not is_right:
        log.warning("the GPU kernel %s differs from torch's own, which is used instead and is slower", name)
    return is_right


def _kernel_and_reference(name: str, device: str) -> Iterator[tuple[list[Tensor], list[Tensor]]]:
    """The outputs of a kernel and of torch for random rows."""
    from tiebreak.model.fast import triton_kernels

    generator = torch.Generator().manual_seed(0)
    x_TX, low_TR, dh_TF = (
        torch.randn(40, n, generator=generator).to(device).bfloat16() for n in (300, 24, 150)
    )
    scale_X, factor = torch.rand(300, generator=generator).to(device), torch.tensor(3.0, device=device)
    cases: dict[str, tuple[Callable[..., object], Callable[..., object], list[tuple[object, ...]]]] = {
        "quantise_rows": (triton_kernels.quantise_rows, _quantise_rows, [(x_TX, scale_X, None, None), (x_TX, None, low_TR, factor)]),
        "transposed": (triton_kernels.transposed, torch.t, [(x_TX.to(CODES),)]),
        "gate": (triton_kernels.gate, _gate, [(x_TX, False), (x_TX, True)]),
        "gate_codes": (triton_kernels.gate_codes, _gate_codes, [(x_TX, False), (x_TX, True)]),
        "gate_gradient": (
            triton_kernels.gate_gradient, _gate_gradient, [(dh_TF, x_TX, False, None), (dh_TF, x_TX, True, None)]
        ),
        "gate_gradient_codes": (
            triton_kernels.gate_gradient, _gate_gradient, [(dh_TF, x_TX, False, scale_X), (dh_TF, x_TX, True, scale_X)]
        ),
    }  # fmt: skip
    kernel, reference, inputs = cases[name]
    for given in inputs:
        yield _tensors(kernel(*given)), _tensors(reference(*given))


def _tensors(actual: object) -> list[Tensor]:
    if isinstance(actual, Tensor):
        return [actual]
    return [t for part in actual for t in _tensors(part)] if isinstance(actual, tuple) else []


def _agree(actual: list[Tensor], expected: list[Tensor], tolerance: float = 0.02) -> bool:
    """True if tensors agree within rounding, relative in the Euclidean norm."""
    return all(
        bool((a.float() - b.float()).norm() < tolerance * b.float().norm())
        for a, b in zip(actual, expected, strict=True)
    )
