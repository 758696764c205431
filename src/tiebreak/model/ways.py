"""Every attention and every layer of a decoder three ways: with the kernels and compiled, plain in 16 bits, in fp32.

All three read the same input, which a plain forward hands on from layer to layer; one layer is looked at after
another, and nothing of it is kept. In fp32 frozen weights are widened one product at a time, whatever they are held
in: a 70B in FP8 takes some 3 GiB more for its widest layer.

Dimension letters: T tokens of the packed row, D documents, X features, H heads, E head size.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map_only
from transformers import AttentionInterface

from tiebreak import distributed
from tiebreak.data.packing import TILE, Document, Packed, pack, shape
from tiebreak.errors import TiebreakError
from tiebreak.model.attention import NAME, packed_attention
from tiebreak.model.classifier import Classifier

ATTENTION, LAYER = "attention", "layer"
Found = dict[str, Tensor]
"""What one way gives, by name: rows of outputs, and of gradients."""


@dataclass(frozen=True)
class Part:
    """How far kernels and plain 16 bits are from fp32 in one of the tensors that a layer or its attention gives."""

    kind: str
    number: int
    tensor: str
    kernels: float
    plain: float


class Batch(NamedTuple):
    """The same documents, filled up to the same tokens, for the kernels and for plain attention.

    real: tokens that are no filling. documents: how many there are.
    """

    kernels: Packed
    plain: Packed
    real: int
    documents: int


class Attended(NamedTuple):
    """The call of an attention."""

    module: nn.Module
    qkv: tuple[Tensor, ...]
    options: Mapping[str, Any]


def compared(
    classifier: Classifier, documents: Sequence[Document], budget: int, training: bool
) -> Iterator[Part]:
    """Distances from fp32 of each layer and its attention, for a training those of gradients too.

    Raises what the kernels or their compiler raise, and TiebreakError for a backward that fails where weights are
    spread over processes.
    """
    batch = _batch(classifier, documents, budget)
    torch.manual_seed(0)
    x_1TX, calls = _calls(classifier, batch.plain)
    layers = list(classifier.model.model.layers)
    for number, (layer, inputs) in enumerate(zip(layers, calls, strict=True)):
        with _watched() as attentions, torch.no_grad(), _plainly():
            after_1TX = layer(x_1TX, **inputs)
        for attended in attentions:
            yield from _parts(ATTENTION, number, *_attention_ways(attended, batch, training))
        at_ends = classifier.at_ends and layer is layers[-1]
        yield from _parts(LAYER, number, *_layer_ways(layer, x_1TX, inputs, batch, at_ends, training))
        x_1TX = after_1TX


def distance(found: Tensor, true: Tensor) -> float:
    """The mean over rows (the last dimension) of the relative error, each at most 1.

    One row of massive activations does not hide the others, as it would in a norm of them all; and the error of a row
    that is nearly 0 counts as that of a usual one.
    """
    error, size = (found.float() - true).norm(dim=-1), true.norm(dim=-1)
    usual = torch.maximum(size, size.median()).clamp(min=torch.finfo(torch.float32).tiny)
    return float((error / usual).clamp(max=1).mean())


def _parts(kind: str, number: int, kernels: Found, plain: Found, exact: Found) -> Iterator[Part]:
    for tensor, true in exact.items():
        yield Part(kind, number, tensor, distance(kernels[tensor], true), distance(plain[tensor], true))


def _batch(classifier: Classifier, documents: Sequence[Document], budget: int) -> Batch:
    """To plain attention, what fills up the others is documents."""
    own = sum(map(len, documents))
    kernels = pack(documents, shape(own, max(budget, own)))
    real, tokens, count = kernels.spans[-1].stop, len(kernels.ids_T), len(documents)
    filling = [
        np.zeros(stop - start, np.int32) for start, stop in pairwise([*range(real, tokens, TILE), tokens])
    ]
    plain = pack([*documents, *filling], apart=range(count, count + len(filling)))
    return Batch(kernels.to(classifier.device), plain.to(classifier.device), real, count)


def _plainly() -> Any:
    """Without compiled code."""
    return torch.compiler.set_stance("force_eager")


@torch.no_grad()
def _calls(classifier: Classifier, plain: Packed) -> tuple[Tensor, list[dict[str, Any]]]:
    """What the first layer reads (1, T, X), and what else each is given."""
    first: list[Tensor] = []
    calls: list[dict[str, Any]] = []

    def see(layer: nn.Module, arguments: tuple[Tensor], inputs: dict[str, Any]) -> None:
        if not first:
            first.append(arguments[0])
        calls.append(inputs)

    hooks = [
        layer.register_forward_pre_hook(see, with_kwargs=True) for layer in classifier.model.model.layers
    ]
    try:
        with _plainly():
            classifier.logits(plain)
    finally:
        for hook in hooks:
            hook.remove()
    return first[0], calls


@contextmanager
def _watched() -> Iterator[list[Attended]]:
    """The attentions that are called."""
    seen: list[Attended] = []

    def watch(module: nn.Module, *arguments: Any, **options: Any) -> tuple[Tensor, None]:
        seen.append(Attended(module, arguments[:3], options))
        return packed_attention(module, *arguments, **options)

    AttentionInterface.register(NAME, watch)
    try:
        yield seen
    finally:
        AttentionInterface.register(NAME, packed_attention)


def _attention_ways(attended: Attended, batch: Batch, training: bool) -> tuple[Found, Found, Found]:
    """With a soft-cap, of queries so long that scores reach it."""
    module, (q_1HTE, k_1KTE, v_1KTE), options = attended
    if cap := options.get("softcap"):
        usual = q_1HTE.float().norm(dim=-1).mean() * k_1KTE.float().norm(dim=-1).mean() * options["scaling"]
        q_1HTE = q_1HTE * (2 * cap / usual).clamp(min=1)
    stretched = Attended(module, (q_1HTE, k_1KTE, v_1KTE), options)
    return (
        _attention(stretched, batch.kernels, batch.real, q_1HTE.dtype, training),
        _attention(stretched, batch.plain, batch.real, q_1HTE.dtype, training),
        _attention(stretched, batch.plain, batch.real, torch.float32, training),
    )


def _attention(attended: Attended, packed: Packed, real: int, kind: torch.dtype, training: bool) -> Found:
    q_1HTE, k_1KTE, v_1KTE = parts = [x.detach().to(kind).requires_grad_(training) for x in attended.qkv]
    with torch.set_grad_enabled(training):
        options = {**attended.options, "layout": packed.layout}
        out_THE = packed_attention(attended.module, q_1HTE, k_1KTE, v_1KTE, None, **options)[0][0, :real]
    found = {"output": out_THE.detach()}
    if training:
        names = ("queries' gradient", "keys' gradient", "values' gradient")
        gradients = _gradients(out_THE, parts)
        found |= {name: g[0, :, :real] for name, g in zip(names, gradients, strict=True)}
    return found


def _layer_ways(
    layer: nn.Module, x_1TX: Tensor, inputs: dict[str, Any], batch: Batch, at_ends: bool, training: bool
) -> tuple[Found, Found, Found]:
    def run(packed: Packed, x_1TX: Tensor, inputs: dict[str, Any]) -> Found:
        read = packed.ends_D[: batch.documents] if at_ends else slice(batch.real)
        own = {"layout": packed.layout, "ends_D": packed.ends_D if at_ends else inputs["ends_D"]}
        return _layer(layer, x_1TX, inputs | own, read, training)

    kernels = run(batch.kernels, x_1TX, inputs)
    with _plainly():
        plain = run(batch.plain, x_1TX, inputs)
        with _Widened():
            exact = run(batch.plain, x_1TX.float(), tree_map_only(Tensor, _widened, inputs))
    return kernels, plain, exact


def _layer(
    layer: nn.Module, x_1TX: Tensor, inputs: dict[str, Any], read: Tensor | slice, training: bool
) -> Found:
    """What the layer adds to the tokens that are read of it, and gradients of that."""
    x_1TX = x_1TX.detach().requires_grad_(training)
    with torch.set_grad_enabled(training):
        y_1RX = layer(x_1TX, **inputs)
        y_1RX = y_1RX[:, : len(read)] if isinstance(read, Tensor) else y_1RX[:, read]
        added_1RX = y_1RX - x_1TX[:, read]
    found = {"output": added_1RX.detach()}
    if training:
        learning = {name: p for name, p in layer.named_parameters() if p.requires_grad}
        dx_1TX, *others = _gradients(added_1RX, [x_1TX, *learning.values()])
        found |= {"input's gradient": dx_1TX} | dict(zip(learning, others, strict=True))
    return found


def _widened(x: Tensor) -> Tensor:
    return x.float() if x.is_floating_point() else x


class _Widened(TorchFunctionMode):
    """Plain linear layers in fp32, whatever their weights are held in; stacks see it by what they are given."""

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if function is F.linear:
            args = tree_map_only(Tensor, _widened, args)
        return function(*args, **(kwargs or {}))


def _gradients(y: Tensor, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Of a sum of y's elements with random signs, which every type holds exactly.

    Raises TiebreakError where weights are spread: after a backward that raised, FSDP2 no longer frees them.
    """
    signs = torch.randint(0, 2, y.shape, generator=torch.Generator().manual_seed(0)) * 2 - 1
    try:
        return torch.autograd.grad(y, inputs, signs.to(y))
    except torch.cuda.OutOfMemoryError:
        raise
    except Exception as error:
        if not distributed.shards():
            raise
        raise TiebreakError(
            f"the GPU kernels raise {type(error).__name__} in a backward, after which weights that are spread over "
            "processes cannot go on; take another card, or a precision in which one holds the model, with "
            "--set compute.shard_model=false"
        ) from error
