"""Tests of parameters against transformers' models, and of memory against measurements on cards."""

import pytest
import torch
from transformers import (
    AutoModelForSequenceClassification,
    Gemma2Config,
    LlamaConfig,
    MistralConfig,
    Qwen2Config,
    Qwen3Config,
)

from tiebreak.errors import TiebreakError
from tiebreak.hardware.memory_model import Shape, decoder_shape, default_train_tokens, memory_of

LLAMA_70B = LlamaConfig(
    hidden_size=8192,
    intermediate_size=28672,
    num_hidden_layers=80,
    num_attention_heads=64,
    num_key_value_heads=8,
    vocab_size=128256,
)
GEMMA_9B = Gemma2Config(
    hidden_size=3584,
    intermediate_size=14336,
    num_hidden_layers=42,
    num_attention_heads=16,
    num_key_value_heads=8,
    head_dim=256,
    vocab_size=256000,
)
CONFIGS = {
    "llama": LLAMA_70B,
    "gemma2": GEMMA_9B,
    "qwen2": Qwen2Config(
        hidden_size=512,
        intermediate_size=1024,
        num_hidden_layers=3,
        num_attention_heads=8,
        num_key_value_heads=2,
    ),
    "qwen3": Qwen3Config(
        hidden_size=512, head_dim=128, num_hidden_layers=3, num_attention_heads=8, num_key_value_heads=2
    ),
    "mistral": MistralConfig(
        hidden_size=256, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2
    ),
}
GIB = 2**30


@pytest.mark.parametrize("family", CONFIGS)
def test_parameters_are_those_of_the_model(family: str) -> None:
    with torch.device("meta"):
        model = AutoModelForSequenceClassification.from_config(CONFIGS[family])
    linears = [layer for layer in model.model.modules() if isinstance(layer, torch.nn.Linear)]
    shape = decoder_shape(CONFIGS[family].to_dict())
    assert shape.matrices == sum(layer.weight.numel() for layer in linears)
    assert shape.embeddings == model.model.embed_tokens.weight.numel()
    assert shape.adapters(8) == sum(8 * (layer.in_features + layer.out_features) for layer in linears)


def test_a_config_inside_another_is_found() -> None:
    inner = CONFIGS["qwen2"].to_dict()
    assert decoder_shape({"model_type": "gemma3", "text_config": inner}) == decoder_shape(inner)


def test_another_kind_of_layer_has_no_estimate() -> None:
    with pytest.raises(TiebreakError, match="no estimate for models of the type 'mixtral'"):
        decoder_shape({"model_type": "mixtral"})


LLAMA = decoder_shape(LLAMA_70B.to_dict())
TWELVE = Shape(**(vars(LLAMA) | {"layers": 12}))
GEMMA = decoder_shape(GEMMA_9B.to_dict())


@pytest.mark.parametrize(
    ("shape", "precision", "tokens", "kept", "masters", "measured"),
    [
        (GEMMA, "bf16", 8192, None, 1.0, 54.8),
        (GEMMA, "fp8", 8192, None, 1.0, 47.0),
        (TWELVE, "fp8", 8192, None, 1.0, 31.7),
        (LLAMA, "fp8", 4096, None, 1.0, 136.9),
        (GEMMA, "bf16", 8192, 0, 0.5, 23.0),
        (TWELVE, "fp8", 8192, 0, 0.5, 18.6),
        (LLAMA, "fp8", 8192, 0, 0.5, 84.4),
        (LLAMA, "fp8", 16384, 0, 0.5, 98.4),
    ],
)
def test_training_memory_agrees_with_measurements(
    shape: Shape, precision: str, tokens: int, kept: int | None, masters: float, measured: float
) -> None:
    """LoRA steps of rank 64, in GiB. Everything kept: benchmarks/results/gpu-h100-202611.md and gpu-h200-202611.md.
    Every layer computed again: an earlier probe, whose masters were in bf16, half of what ours take.
    """
    memory = memory_of(shape, precision, 64, tokens, training=True, kept_layers=kept)
    total = memory.weights + masters * memory.adapters + memory.activations
    assert total / GIB == pytest.approx(measured, rel=0.07)


@pytest.mark.parametrize(
    ("shape", "precision", "measured"), [(GEMMA, "bf16", 19.1), (GEMMA, "fp8", 11.2), (LLAMA, "fp8", 69.2)]
)
def test_scoring_memory_agrees_with_measurements(shape: Shape, precision: str, measured: float) -> None:
    """Without adapters, 16k tokens a forward: the same pages, in GiB."""
    memory = memory_of(shape, precision, 64, 16384, training=False)
    assert (memory.weights + memory.activations) / GIB == pytest.approx(measured, rel=0.07)


def test_memory_grows_with_tokens_layers_and_rank() -> None:
    def total(precision: str = "bf16", rank: int = 64, tokens: int = 4096, kept: int | None = 10) -> float:
        return memory_of(GEMMA, precision, rank, tokens, True, kept).total

    assert total("nf4") < total("fp8") < total() < total("fp32")
    assert total() < total(rank=128)
    assert total() < total(tokens=8192)
    assert total(kept=0) < total() < total(kept=None)


@pytest.mark.parametrize(
    ("matrices", "tokens"),
    [(106_000_000, 65536), (2_400_000_000, 32768), (9_000_000_000, 8192), (70_000_000_000, 8192)],
)
def test_small_models_take_more_tokens(matrices: int, tokens: int) -> None:
    assert default_train_tokens(matrices) == tokens
