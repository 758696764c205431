"""Three variants of each attention and layer of a decoder: kernels and compiled, plain in 16 bits, and in fp32.

All three read the same input, which a plain forward computes layer by layer; layers are compared one after
another, and their tensors are not kept. In fp32 frozen weights of any format are dequantised one product at a time: a
70B in FP8 takes some 3 GiB more for its widest layer.

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
from tiebreak.errors import TiebreakError
from tiebreak.model.attention import NAME, packed_attention
from tiebreak.model.classifier import Classifier
from tiebreak.tokens.packing import TILE, Document, Packed, fixed_length, pack

ATTENTION, LAYER = "attention", "layer"
Tensors = dict[str, Tensor]
"""The outputs and gradients of one variant by name, as rows."""


@dataclass(frozen=True)
class Deviation:
    """The errors of kernels and of plain 16 bits against fp32 in one output or gradient of a layer or its attention."""

    kind: str
    number: int
    tensor: str
    kernels: float
    plain: float


class Batch(NamedTuple):
    """The same documents, padded to the same tokens, for the kernels and for plain attention.

    real: the number of tokens without padding. documents: the number of documents without padding.
    """

    kernels: Packed
    plain: Packed
    real: int
    documents: int


class AttentionCall(NamedTuple):
    """The arguments of an attention call."""

    module: nn.Module
    qkv: tuple[Tensor, ...]
    options: Mapping[str, Any]


def compare_layers(
    classifier: Classifier, documents: Sequence[Document], budget: int, training: bool
) -> Iterator[Deviation]:
    """Yield the errors against fp32 of each layer and its attention, for training those of gradients too.

    Raises the exceptions of the kernels and their compiler, and TiebreakError for a backward that fails where weights
    are sharded over processes.
    """
    batch = _batch(classifier, documents, budget)
    torch.manual_seed(0)
    x_1TX, layer_inputs = _layer_inputs(classifier, batch.plain)
    layers = list(classifier.model.model.layers)
    for number, (layer, inputs) in enumerate(zip(layers, layer_inputs, strict=True)):
        with _recorded_attention_calls() as attention_calls, torch.no_grad(), _without_compilation():
            after_1TX = layer(x_1TX, **inputs)
        for call in attention_calls:
            yield from _deviations(ATTENTION, number, *_attention_variants(call, batch, training))
        skips = classifier.skips_last_layer and layer is layers[-1]
        yield from _deviations(LAYER, number, *_layer_variants(layer, x_1TX, inputs, batch, skips, training))
        x_1TX = after_1TX


def distance(tensors: Tensor, true: Tensor) -> float:
    """The mean over rows (of the last dimension) of the relative error, each at most 1.

    So a row of massive activations does not dominate the others, as it would in a norm of them all; and the error of a
    row near 0 is relative to the median norm.
    """
    error, size = (tensors.float() - true).norm(dim=-1), true.norm(dim=-1)
    typical = torch.maximum(size, size.median()).clamp(min=torch.finfo(torch.float32).tiny)
    return float((error / typical).clamp(max=1).mean())


def _deviations(
    kind: str, number: int, kernels: Tensors, plain: Tensors, exact: Tensors
) -> Iterator[Deviation]:
    for tensor, true in exact.items():
        yield Deviation(kind, number, tensor, distance(kernels[tensor], true), distance(plain[tensor], true))


def _batch(classifier: Classifier, documents: Sequence[Document], budget: int) -> Batch:
    """Pack the documents for both; for plain attention the padding is documents too."""
    own = sum(map(len, documents))
    kernels = pack(documents, fixed_length(own, max(budget, own)))
    real, tokens, count = kernels.spans[-1].stop, len(kernels.ids_T), len(documents)
    filling = [
        np.zeros(stop - start, np.int32) for start, stop in pairwise([*range(real, tokens, TILE), tokens])
    ]
    plain = pack([*documents, *filling], unshared=range(count, count + len(filling)))
    return Batch(kernels.to(classifier.device), plain.to(classifier.device), real, count)


def _without_compilation() -> Any:
    """A context without compiled code."""
    return torch.compiler.set_stance("force_eager")


@torch.no_grad()
def _layer_inputs(classifier: Classifier, plain: Packed) -> tuple[Tensor, list[dict[str, Any]]]:
    """The input (1, T, X) of the first layer, and the other arguments of each layer."""
    first: list[Tensor] = []
    layer_inputs: list[dict[str, Any]] = []

    def record(layer: nn.Module, arguments: tuple[Tensor], inputs: dict[str, Any]) -> None:
        if not first:
            first.append(arguments[0])
        layer_inputs.append(inputs)

    hooks = [
        layer.register_forward_pre_hook(record, with_kwargs=True) for layer in classifier.model.model.layers
    ]
    try:
        with _without_compilation():
            classifier.logits(plain)
    finally:
        for hook in hooks:
            hook.remove()
    return first[0], layer_inputs


@contextmanager
def _recorded_attention_calls() -> Iterator[list[AttentionCall]]:
    """Record the attention calls in the context."""
    recorded: list[AttentionCall] = []

    def record(module: nn.Module, *arguments: Any, **options: Any) -> tuple[Tensor, None]:
        recorded.append(AttentionCall(module, arguments[:3], options))
        return packed_attention(module, *arguments, **options)

    AttentionInterface.register(NAME, record)
    try:
        yield recorded
    finally:
        AttentionInterface.register(NAME, packed_attention)


def _attention_variants(
    call: AttentionCall, batch: Batch, training: bool
) -> tuple[Tensors, Tensors, Tensors]:
    """The three variants of an attention; with a soft-cap, queries are scaled so that scores reach it."""
    module, (q_1HTE, k_1KTE, v_1KTE), options = call
    if cap := options.get("softcap"):
        typical = q_1HTE.float().norm(dim=-1).mean() * k_1KTE.float().norm(dim=-1).mean() * options["scaling"]
        q_1HTE = q_1HTE * (2 * cap / typical).clamp(min=1)
    scaled = AttentionCall(module, (q_1HTE, k_1KTE, v_1KTE), options)
    return (
        _attention(scaled, batch.kernels, batch.real, q_1HTE.dtype, training),
        _attention(scaled, batch.plain, batch.real, q_1HTE.dtype, training),
        _attention(scaled, batch.plain, batch.real, torch.float32, training),
    )


def _attention(call: AttentionCall, packed: Packed, real: int, kind: torch.dtype, training: bool) -> Tensors:
    q_1HTE, k_1KTE, v_1KTE = parts = [x.detach().to(kind).requires_grad_(training) for x in call.qkv]
    with torch.set_grad_enabled(training):
        options = {**call.options, "layout": packed.layout, "at_ends": False}  # kernels compute every token
        out_THE = packed_attention(call.module, q_1HTE, k_1KTE, v_1KTE, None, **options)[0][0, :real]
    tensors = {"output": out_THE.detach()}
    if training:
        names = ("queries' gradient", "keys' gradient", "values' gradient")
        gradients = _gradients(out_THE, parts)
        tensors |= {name: g[0, :, :real] for name, g in zip(names, gradients, strict=True)}
    return tensors


def _layer_variants(
    layer: nn.Module, x_1TX: Tensor, inputs: dict[str, Any], batch: Batch, skips: bool, training: bool
) -> tuple[Tensors, Tensors, Tensors]:
    def run(packed: Packed, x_1TX: Tensor, inputs: dict[str, Any]) -> Tensors:
        read = packed.ends_D[: batch.documents] if skips else slice(batch.real)
        own = {"layout": packed.layout, "ends_D": packed.ends_D if skips else inputs["ends_D"]}
        return _layer(layer, x_1TX, inputs | own, read, training)

    kernels = run(batch.kernels, x_1TX, inputs)
    with _without_compilation():
        plain = run(batch.plain, x_1TX, inputs)
        with _LinearInFp32():
            exact = run(batch.plain, x_1TX.float(), tree_map_only(Tensor, _to_fp32, inputs))
    return kernels, plain, exact


def _layer(
    layer: nn.Module, x_1TX: Tensor, inputs: dict[str, Any], read: Tensor | slice, training: bool
) -> Tensors:
    """The update that a layer adds to the tokens `read`, and its gradients."""
    x_1TX = x_1TX.detach().requires_grad_(training)
    with torch.set_grad_enabled(training):
        y_1RX = layer(x_1TX, **inputs)
        y_1RX = y_1RX[:, : len(read)] if isinstance(read, Tensor) else y_1RX[:, read]
        added_1RX = y_1RX - x_1TX[:, read]
    tensors = {"output": added_1RX.detach()}
    if training:
        trainable = {name: p for name, p in layer.named_parameters() if p.requires_grad}
        dx_1TX, *others = _gradients(added_1RX, [x_1TX, *trainable.values()])
        tensors |= {"input's gradient": dx_1TX} | dict(zip(trainable, others, strict=True))
    return tensors


def _to_fp32(x: Tensor) -> Tensor:
    return x.float() if x.is_floating_point() else x


class _LinearInFp32(TorchFunctionMode):
    """A mode with plain linear layers in fp32 for weights of any type; fused layers follow the type of their input."""

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if function is F.linear:
            args = tree_map_only(Tensor, _to_fp32, args)
        return function(*args, **(kwargs or {}))


def _gradients(y: Tensor, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """The gradients of a sum of y's elements with random signs, which are exact in every type.

    Raises TiebreakError for sharded weights: after a backward that raised, FSDP2 no longer frees them.
    """
    signs = torch.randint(0, 2, y.shape, generator=torch.Generator().manual_seed(0)) * 2 - 1
    try:
        return torch.autograd.grad(y, inputs, signs.to(y))
    except torch.cuda.OutOfMemoryError:
        raise
    except Exception as error:
        if not distributed.is_sharded():
            raise
        raise TiebreakError(
            f"the GPU kernels raise {type(error).__name__} in a backward, after which weights that are spread over "
            "processes cannot go on; take another card, or a precision in which one holds the model, with "
            "--set compute.shard_model=false"
        ) from error
