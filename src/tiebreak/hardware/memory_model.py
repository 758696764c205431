"""Estimates of a decoder's parameters and memory on a card, from its config.json alone.

Dimension letters: h hidden size, q width of all queries, k width of all keys (and of all values), i width of the
feed-forward layer, L layers, V vocabulary.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tiebreak.errors import TiebreakError
from tiebreak.hardware.gpu_specs import GIB
from tiebreak.runtime import TRAIN_TOKENS

BYTES = {"fp32": 4.0, "bf16": 2.0, "fp16": 2.0, "fp8": 1.0, "nf4": 4.25 / 8}
"""Bytes of a frozen weight by format. NF4 has four bits and a scale of 16 bits for every 64 weights."""
MOST_TRAIN_TOKENS, WORK = 65536, 8e13
"""The most tokens of a forward where the recipe names none, and the parameters times tokens that it aims at."""
MASTER = 16
"""Bytes of an adapter's parameter in training: fp32 master weight, gradient, two moments of Adam."""
_GATED = ("llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text", "phi3")


@dataclass(frozen=True)
class Shape:
    """The sizes of a decoder: h, q, k, i, L, V."""

    hidden: int
    queries: int
    keys: int
    feed_forward: int
    layers: int
    vocabulary: int

    @property
    def linears(self) -> tuple[tuple[int, int], ...]:
        """The inputs and outputs of a layer's matrices: q, k, v, o, gate, up, down."""
        h, q, k, i = self.hidden, self.queries, self.keys, self.feed_forward
        return (h, q), (h, k), (h, k), (q, h), (h, i), (h, i), (i, h)

    @property
    def matrices(self) -> int:
        """The number N of parameters in the layers' matrices: 2 N operations per scored token, 4 N per trained one."""
        return self.layers * sum(inputs * outputs for inputs, outputs in self.linears)

    @property
    def embeddings(self) -> int:
        return self.vocabulary * self.hidden

    def adapters(self, rank: int) -> int:
        """The number of parameters of LoRA adapters of that rank on every linear layer."""
        return self.layers * sum(rank * (inputs + outputs) for inputs, outputs in self.linears)


def decoder_shape(config: Mapping[str, Any]) -> Shape:
    """The shape of the decoder that a config.json describes.

    Raises TiebreakError for a type of model with other layers, such as a mixture of experts.
    """
    text = config.get("text_config", config)
    kind = text.get("model_type", config.get("model_type", "unknown"))
    if kind not in _GATED:
        raise TiebreakError(f"no estimate for models of the type {kind!r}; known are: {', '.join(_GATED)}")
    heads = text["num_attention_heads"]
    size = text.get("head_dim") or text["hidden_size"] // heads
    return Shape(
        hidden=text["hidden_size"],
        queries=heads * size,
        keys=(text.get("num_key_value_heads") or heads) * size,
        feed_forward=text["intermediate_size"],
        layers=text["num_hidden_layers"],
        vocabulary=text["vocab_size"],
    )


@dataclass(frozen=True)
class Memory:
    """The bytes on a card: frozen weights, adapters with gradients and optimizer, activations of one forward."""

    weights: float
    adapters: float
    activations: float

    @property
    def total(self) -> float:
        return self.weights + self.adapters + self.activations


def memory_of(
    shape: Shape, precision: str, rank: int, tokens: int, training: bool, kept_layers: int | None = None
) -> Memory:
    """The memory of one forward of `tokens` (scoring), or of a forward and backward (training).

    precision: the format of frozen weights, a key of `BYTES`; embeddings have 16 bits or more.
    kept_layers: the number of layers that keep their activations, the others recompute them in the backward; None
    for all. The overhead of CUDA is not included (`with_overhead`).
    """
    element = 4 if precision == "fp32" else 2
    weights = BYTES[precision] * shape.matrices + element * shape.embeddings
    layer = element * _activations_per_token(shape)
    if not training:
        return Memory(weights, 4.0 * shape.adapters(rank), tokens * layer)
    kept = shape.layers if kept_layers is None else kept_layers
    inputs = (shape.layers - kept) * element * shape.hidden
    at_once = max(kept, 1) + 2  # kept layers, or one recomputed; then that layer's gradients
    return Memory(weights, MASTER * shape.adapters(rank), tokens * (at_once * layer + inputs))


def default_train_tokens(matrices: int) -> int:
    """The tokens of a forward on a card where the recipe names none: of a small model more, so that it takes as long."""
    tokens = TRAIN_TOKENS
    while tokens < MOST_TRAIN_TOKENS and 2 * tokens * matrices <= WORK:
        tokens *= 2
    return tokens


def with_overhead(total: float) -> float:
    """The bytes of a process on a card: its tensors, fragmentation of about 4 %, and a GiB for the CUDA context."""
    return GIB + 1.04 * total


def _activations_per_token(shape: Shape) -> int:
    """The activations per token that a compiled layer keeps: both residual sums, attention's inputs and output, gate, up.

    Layers that are not compiled, as on cards before Ampere, keep about half as much again.
    """
    return 2 * (shape.hidden + shape.queries + shape.keys + shape.feed_forward)
