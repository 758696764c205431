"""What a decoder takes on a card, from its config.json alone: parameters, and bytes of memory.

Dimension letters: h hidden size, q width of all queries, k width of all keys (and of all values), i width of the
feed-forward layer, L layers, V vocabulary.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tiebreak.cards import GIB
from tiebreak.errors import TiebreakError

BYTES = {"fp32": 4.0, "bf16": 2.0, "fp16": 2.0, "fp8": 1.0, "nf4": 4.25 / 8}
"""Of a frozen weight. NF4 has four bits and a scale of 16 bits for every 64 weights."""
MASTER = 16
"""Bytes of an adapter's parameter in training: fp32 master, gradient, two moments of Adam."""
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
        """Inputs and outputs of a layer's matrices: q, k, v, o, gate, up, down."""
        h, q, k, i = self.hidden, self.queries, self.keys, self.feed_forward
        return (h, q), (h, k), (h, k), (q, h), (h, i), (h, i), (i, h)

    @property
    def matrices(self) -> int:
        """Parameters in the layers' matrices: the N of 2 N operations a scored token, 4 N a trained one."""
        return self.layers * sum(inputs * outputs for inputs, outputs in self.linears)

    @property
    def embeddings(self) -> int:
        return self.vocabulary * self.hidden

    def adapters(self, rank: int) -> int:
        """Parameters of LoRA adapters of that rank on every linear layer."""
        return self.layers * sum(rank * (inputs + outputs) for inputs, outputs in self.linears)


def parameters_of(config: Mapping[str, Any]) -> Shape:
    """The shape of the decoder that a config.json describes.

    Raises TiebreakError for a kind of model that has other layers than these (mixtures of experts, say).
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
    """Bytes on a card: frozen weights, adapters with gradients and optimizer, activations of one forward."""

    weights: float
    adapters: float
    activations: float

    @property
    def total(self) -> float:
        return self.weights + self.adapters + self.activations


def memory_of(
    shape: Shape, precision: str, rank: int, tokens: int, training: bool, kept_layers: int | None = None
) -> Memory:
    """Memory of one forward of `tokens` (scoring), or of a forward and backward (training).

    precision: how frozen weights are held, a key of `BYTES`; embeddings stay in 16 bits at the least.
    kept_layers: how many layers keep their activations, the others are computed again in the backward; None
    for all. Context and fragments of CUDA come on top (`with_context`).
    """
    element = 4 if precision == "fp32" else 2
    weights = BYTES[precision] * shape.matrices + element * shape.embeddings
    layer = element * _kept(shape)
    if not training:
        return Memory(weights, 4.0 * shape.adapters(rank), tokens * layer)
    kept = shape.layers if kept_layers is None else kept_layers
    inputs = (shape.layers - kept) * element * shape.hidden
    at_once = max(kept, 1) + 2  # what is kept, or of one layer computed again; then that layer's gradients
    return Memory(weights, MASTER * shape.adapters(rank), tokens * (at_once * layer + inputs))


def with_context(total: float) -> float:
    """Bytes that a process takes on a card: what it holds, fragments of about 4 %, a GiB of CUDA's own."""
    return GIB + 1.04 * total


def _kept(shape: Shape) -> int:
    """Numbers a token that a compiled layer keeps: both sums, what attention reads and gives, gate and up.

    Layers that are not compiled, as on cards before Ampere, keep about half as much again.
    """
    return 2 * (shape.hidden + shape.queries + shape.keys + shape.feed_forward)
