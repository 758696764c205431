"""Operators that torch.compile keeps whole, at the least cost to the host.

`torch.library.custom_op` wraps each call in checks and a closure of its own, which an H100 waits for: half of the host's
time of a training step (docs/speed.md). These go to the dispatcher directly.
"""

from collections.abc import Callable
from typing import Any

import torch

Function = Callable[..., Any]


def operator(name: str, function: Function, fake: Function) -> Any:
    """Make torch.ops.tiebreak.<name> of a function that changes none of its arguments and returns new tensors.

    fake: what it would return, as empty tensors of the same shapes, types and strides.
    """
    full = f"tiebreak::{name}"
    torch.library.define(full, torch.library.infer_schema(function, mutates_args=()))
    torch.library.impl(full, "CompositeExplicitAutograd", function)
    torch.library.register_fake(full, fake)
    return getattr(torch.ops.tiebreak, name)


def differentiate(name: str, backward: Function, setup: Function) -> None:
    """Give an operator its backward, called with the context that `setup(ctx, inputs, output)` filled."""
    torch.library.register_autograd(f"tiebreak::{name}", backward, setup_context=setup)
