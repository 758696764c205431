"""Registration of custom operators for torch.compile with little host overhead.

`torch.library.custom_op` wraps each call in checks and a closure, which took half of the host's time of a training step
on an H100 (docs/speed.md). These operators are registered with the dispatcher directly.
"""

from collections.abc import Callable
from typing import Any

import torch

Function = Callable[..., Any]


def define_operator(name: str, function: Function, fake: Function) -> Any:
    """Define torch.ops.tiebreak.<name> from a function that does not modify its arguments and returns new tensors.

    fake: returns empty tensors of the same shapes, types and strides.
    """
    full = f"tiebreak::{name}"
    torch.library.define(full, torch.library.infer_schema(function, mutates_args=()))
    torch.library.impl(full, "CompositeExplicitAutograd", function)
    torch.library.register_fake(full, fake)
    return getattr(torch.ops.tiebreak, name)


def register_backward(name: str, backward: Function, setup: Function) -> None:
    """Register an operator's backward, which is called with the context that `setup(ctx, inputs, output)` fills."""
    torch.library.register_autograd(f"tiebreak::{name}", backward, setup_context=setup)
