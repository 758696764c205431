"""Fused linear layers: frozen layers that read the same input as one module, with their adapters.

Queries, keys and values are one product, gate and up another. The decoder's own code is unchanged: where it calls
`q_proj`, it calls a `Member`, and the first member of a group computes all outputs (`model.fast.fuse`).

Dimension letters: T tokens, I inputs, O outputs of all members, R ranks of all members, r rank of one, J = I + R.
"""

import math
from collections.abc import Iterator
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel

from tiebreak.model.fast import elementwise, fp8, lora_matmul, nf4
from tiebreak.model.fast.autograd_ops import adapted
from tiebreak.model.fast.fsdp import local_rows
from tiebreak.recipe.models import Lora

Kind = Literal["dense", "fp8", "nf4"]


class FusedLinear(nn.Module):
    """Concatenated frozen weights, and the fp32 master weights A (R, I) and B (O, r) of their adapters.

    layers: modules with in_features, out_features and bias.
    names: the members' names in the plain model, such as `model.layers.0.mlp.up_proj`. Without `lora` there
    are no adapters. The weights are undefined until `fill` is called for each member.
    """

    def __init__(
        self,
        names: tuple[str, ...],
        layers: tuple[Any, ...],
        kind: Kind,
        dtype: torch.dtype,
        device: str,
        lora: Lora | None,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.names, self.kind, self.inputs = names, kind, layers[0].in_features
        self.sizes = [layer.out_features for layer in layers]
        self.rank = lora.rank if lora else 0
        self.scale = lora.alpha / lora.rank if lora else 0.0
        self.dropout = lora.dropout if lora else 0.0
        bound = 1 / math.sqrt(self.inputs)  # kaiming_uniform with a = sqrt(5), as peft initialises A
        a_RI = [
            torch.empty(self.rank, self.inputs).uniform_(-bound, bound, generator=generator) for _ in names
        ]
        self.lora_A = nn.Parameter(torch.cat(a_RI).to(device), requires_grad=self.rank > 0)
        b_Or = torch.zeros(sum(self.sizes), self.rank, device=device)
        self.lora_B = nn.Parameter(b_Or, requires_grad=self.rank > 0)
        self.keep_I: Tensor | None = None
        self._mask_I = torch.empty(self.inputs)
        self.parts: list[Tensor] = []
        self.dtype = dtype
        self.a_RI = self.lora_A.detach().to(dtype, copy=True)
        self._prepared_state: tuple[object, ...] = ()  # the state of the master weights at the last `prepare`
        self._allocate(dtype, device)
        self.bias = None
        if layers[0].bias is not None:
            self.bias = _frozen(torch.empty(sum(self.sizes), dtype=dtype, device=device))

    def _allocate(self, dtype: torch.dtype, device: str) -> None:
        outputs, width = sum(self.sizes), self.inputs + len(self.lora_A)
        if self.kind == "dense":
            self.weight = _frozen(torch.zeros(outputs, width, dtype=dtype, device=device))
        elif self.kind == "fp8":
            self.codes = _frozen(torch.zeros(outputs, width, dtype=elementwise.CODES, device=device))
            self.scales = _frozen(torch.empty(outputs, device=device))
            self.factor = _frozen(torch.ones((), device=device))
        else:
            weights = outputs * self.inputs
            self.codes = _frozen(torch.empty(weights // 2, dtype=torch.uint8, device=device))
            self.scales = _frozen(torch.empty(weights // nf4.BLOCK, dtype=torch.bfloat16, device=device))
            self.b_Or = self.lora_B.detach().to(dtype, copy=True)

    @property
    def frozen(self) -> list[Tensor]:
        """The weight as `lora_matmul` takes it; codes that are sharded over processes are stored in another type."""
        if self.kind == "dense":
            return [self.weight]
        if self.kind == "nf4":
            return [self.codes.view(torch.uint8), self.scales, self.b_Or]
        return [self.codes.view(elementwise.CODES), self.scales, self.factor]

    @torch.no_grad()
    def fill(self, member: int, weight: Tensor | None = None, bias: Tensor | None = None) -> None:
        """Encode one member's weight (O, I), and copy its bias, into the module."""
        start = sum(self.sizes[:member])
        rows = slice(start, start + self.sizes[member])
        if bias is not None and self.bias is not None:
            self.bias[rows] = bias
        if weight is None:
            return
        if self.kind == "dense":
            self.weight[rows, : self.inputs] = weight
        elif self.kind == "fp8":
            fp8.encode(weight, self.codes[rows, : self.inputs], self.scales[rows])
        else:
            codes, scales = nf4.encode(weight)
            first = start * self.inputs
            self.codes[first // 2 :][: len(codes)] = codes
            self.scales[first // nf4.BLOCK :][: len(scales)] = scales

    def unfreeze_adapters(self) -> None:
        """Make the adapters trainable; the frozen weights never are."""
        self.lora_A.requires_grad_(self.rank > 0)
        self.lora_B.requires_grad_(self.rank > 0)

    @torch.no_grad()
    def prepare(self) -> None:
        """Prepare a forward: draw the dropout mask, and cast A and B to the compute type.

        Dropout drops input features for all tokens of a forward, by a mask on the columns of A; a mask per token would
        need separate activations, beside those that the frozen product reads.
        """
        state = tuple((id(p), p._version, p.device) for p in (self.lora_A, self.lora_B))
        had_dropout, self.keep_I = self.keep_I is not None, self._draw_dropout()
        if state != self._prepared_state:
            self._write_b()
        if state != self._prepared_state or had_dropout or self.keep_I is not None:
            a_RI = self.lora_A if self.keep_I is None else self.lora_A * self.keep_I
            self._renew("a_RI", a_RI.detach().to(self.dtype))
        self._prepared_state = state

    def _renew(self, name: str, value: Tensor) -> None:
        """Write a value where the last one is, because recorded graphs read it there."""
        last: Tensor = getattr(self, name)
        if last.device == value.device:
            last.copy_(value)
        else:
            setattr(self, name, value)

    def _draw_dropout(self) -> Tensor | None:
        if not (self.training and self.dropout):
            return None
        if self._mask_I.device != self.lora_A.device:
            self._mask_I = torch.empty(self.inputs, device=self.lora_A.device)
        return self._mask_I.bernoulli_(1 - self.dropout).div_(1 - self.dropout)

    def _write_b(self) -> None:
        """Write alpha / rank times B: as (O, r), or block-diagonal in the columns beside the weight."""
        scaled_Or = self.lora_B * self.scale
        if self.kind == "nf4":
            self._renew("b_Or", scaled_Or.to(self.dtype))
        elif self.rank:
            b_OR: Tensor = torch.block_diag(*torch.split(scaled_Or, self.sizes))  # type: ignore[no-untyped-call]
            weight, rows = local_rows(self.codes if self.kind == "fp8" else self.weight)
            if self.kind == "fp8":
                codes = weight.view(elementwise.CODES)
                fp8.write_adapter(codes, rows, self.scales, self.factor, b_OR, self.inputs)
            else:
                weight[:, self.inputs :] = b_OR[rows]

    @property
    def operands(self) -> tuple[list[Tensor], Tensor, Tensor, Tensor, Tensor | None]:
        """The operands of the operators: frozen weight, A in the compute type, master weights A and B, dropout mask."""
        return self.frozen, self.a_RI, self.lora_A, self.lora_B, self.keep_I

    def forward(self, x: Tensor) -> Tensor:
        """The concatenated outputs of all members: (..., I) -> (..., O). In fp32 if x is wider than the compute type."""
        if self.needs_fp32(x):
            return self._forward_fp32(x)
        y_TO, _ = adapted(x.reshape(-1, self.inputs), *self.operands, self.scale, self.sizes)
        y_TO = y_TO if self.bias is None else y_TO + self.bias
        y: Tensor = y_TO.view(*x.shape[:-1], -1)
        return y

    def needs_fp32(self, x: Tensor) -> bool:
        """True if x is fp32 in a module that computes in 16 bits, as in the reference of `kernel_variants`."""
        return x.dtype != self.dtype

    def _forward_fp32(self, x: Tensor) -> Tensor:
        """The forward in fp32, with dequantised weights and the master weights of the adapters."""
        y = F.linear(x, lora_matmul.dequantised(self.frozen, sum(self.sizes), self.inputs))
        if self.rank:
            a_RI = self.lora_A if self.keep_I is None else self.lora_A * self.keep_I
            lows = torch.split(F.linear(x, a_RI), self.rank, -1)
            bs = torch.split(self.lora_B * self.scale, self.sizes)
            y = y + torch.cat([F.linear(low, b_Or) for low, b_Or in zip(lows, bs, strict=True)], -1)
        return y if self.bias is None else y + self.bias

    def members(self) -> Iterator[tuple[str, Tensor, Tensor]]:
        """The name of each member, and its part of A and of B."""
        start = 0
        for n, (name, size) in enumerate(zip(self.names, self.sizes, strict=True)):
            yield name, self.lora_A[n * self.rank :][: self.rank], self.lora_B[start:][:size]
            start += size


class Member(nn.Module):
    """A replacement of one layer of a group. The first computes all outputs, the others return their parts."""

    def __init__(self, stack: FusedLinear, number: int) -> None:
        super().__init__()
        self.number, self.last = number, number == len(stack.sizes) - 1
        if number == 0:
            self.stack = stack
        else:
            object.__setattr__(self, "stack", stack)  # registered once, at the first

    def forward(self, x: Tensor) -> Tensor:
        stack = self.stack
        if self.number == 0:
            stack.parts = list(torch.split(stack(x), stack.sizes, -1))
        part = stack.parts[self.number]
        if self.last:
            stack.parts = []
        return part


def fused_linears(model: PreTrainedModel) -> list[FusedLinear]:
    """The fused linear layers of a model."""
    return [module for module in model.modules() if isinstance(module, FusedLinear)]


def _frozen(tensor: Tensor) -> nn.Parameter:
    return nn.Parameter(tensor, requires_grad=False)
