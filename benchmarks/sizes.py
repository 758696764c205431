"""What `benchmarks/gpu.py` runs: decoders of real sizes, or small ones with the same heads, and rows of real lengths.

Weights and tokens are random: speed depends on shapes, not on values.
"""

import numpy as np
import torch
from torch import Tensor, nn
from transformers import Gemma2Config, LlamaConfig, PreTrainedConfig, PreTrainedModel, Qwen2Config

from tiebreak.judge.int8 import Int8Linear
from tiebreak.model import precision, streaming_loader
from tiebreak.model.classifier import Classifier
from tiebreak.model.fast import compile
from tiebreak.model.fast.fused_linears import fused_linears
from tiebreak.recipe.models import Lora
from tiebreak.recipe.schema import Prompt
from tiebreak.tokens.prompt import Ragged, TokenizedVotes

LONGEST, PROMPT_SHARE = 1024, 0.1


def config_of(family: str, layers: int, small: bool) -> PreTrainedConfig:
    """The real sizes; or small ones with the real heads, so that the same kernels run."""
    shared = {
        "num_hidden_layers": layers,
        "num_labels": 3,
        "pad_token_id": 0,
        "max_position_embeddings": 8192,
    }
    if family == "llama":
        return LlamaConfig(
            vocab_size=1024 if small else 128256, hidden_size=256 if small else 8192,
            intermediate_size=512 if small else 28672, num_attention_heads=8 if small else 64,
            num_key_value_heads=2 if small else 8, head_dim=128, rope_theta=500000.0, **shared,
        )  # fmt: skip
    if family == "smollm2":  # SmolLM2-135M
        return LlamaConfig(
            vocab_size=1024 if small else 49152, hidden_size=192 if small else 576,
            intermediate_size=512 if small else 1536, num_attention_heads=3 if small else 9,
            num_key_value_heads=1 if small else 3, head_dim=64, rope_theta=100000.0, **shared,
        )  # fmt: skip
    if family == "qwen2.5-0.5b":
        return Qwen2Config(
            vocab_size=1024 if small else 151936, hidden_size=448 if small else 896,
            intermediate_size=512 if small else 4864, num_attention_heads=7 if small else 14,
            num_key_value_heads=1 if small else 2, rope_theta=1000000.0, **shared,
        )  # fmt: skip
    if family == "qwen2":
        return Qwen2Config(
            vocab_size=1024 if small else 152064, hidden_size=256 if small else 8192,
            intermediate_size=512 if small else 29568, num_attention_heads=2 if small else 64,
            num_key_value_heads=1 if small else 8, rope_theta=1000000.0, **shared,
        )  # fmt: skip
    return Gemma2Config(
        vocab_size=1024 if small else 256000, hidden_size=256 if small else 3584,
        intermediate_size=512 if small else 14336, num_attention_heads=4 if small else 16,
        num_key_value_heads=2 if small else 8, head_dim=256, query_pre_attn_scalar=256, sliding_window=4096,
        attn_logit_softcapping=50.0, final_logit_softcapping=30.0, **shared,
    )  # fmt: skip


def votes_of(count: int, vocabulary: int, prompt_share: float, longest: int, seed: int = 0) -> TokenizedVotes:
    """Random tokens in rows of realistic lengths."""
    rng = np.random.default_rng(seed)
    frame = tuple(np.array([n], np.int32) for n in range(1, 5))
    total = np.exp(rng.normal(size=count) * 0.75 + np.log(620)).clip(48, longest).astype(int) - len(frame)
    prompt = (total * prompt_share).astype(int)
    first = ((total - prompt) * rng.uniform(0.3, 0.7, count)).astype(int)
    texts = [_ragged(lengths, vocabulary, rng) for lengths in (prompt, first, total - prompt - first)]
    return TokenizedVotes(texts[0], (texts[1], texts[2]), frame, frame[0], Prompt())


def _ragged(lengths: np.ndarray, vocabulary: int, rng: np.random.Generator) -> Ragged:
    tokens = rng.integers(5, vocabulary, lengths.sum()).astype(np.int32)
    return Ragged(tokens, np.concatenate([[0], np.cumsum(lengths)]), np.zeros(len(lengths), np.int64))


def build(
    config: PreTrainedConfig,
    kind: str,
    rank: int,
    device: str,
    kernels: bool,
    compiled: bool,
    given: dict[str, Tensor] | None = None,
) -> Classifier:
    """Our classifier with random weights, or with those given. kind int8 holds codes of the quantised model."""
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    lora = Lora(rank=rank, alpha=2 * rank, dropout=0.05) if rank else None
    model = streaming_loader.empty_model(config, dtype, device, None if kind == "int8" else kind, lora)
    fill(model, given)
    if kind == "int8":
        pack_codes(model)
    model.requires_grad_(False)
    for stack in fused_linears(model):
        stack.unfreeze_adapters()
    model.score.float().requires_grad_(True)
    fixed = kernels and compile.supports_kernels(precision.device_card(device), dtype, config)
    if fixed and compiled:
        compile.compile_layers(model)
    return Classifier(model, None, head_trained=True, fixed=fixed)  # type: ignore[arg-type]


@torch.no_grad()
def fill(model: PreTrainedModel, given: dict[str, Tensor] | None) -> None:
    in_stacks = {id(p) for stack in fused_linears(model) for p in stack.parameters()}
    for stack in fused_linears(model):
        for n, (name, size) in enumerate(zip(stack.names, stack.sizes, strict=True)):
            device = stack.lora_A.device
            shape = (size, stack.inputs)
            std = stack.inputs**-0.5  # so that no layer blows up what it is given
            random = None if given else torch.randn(shape, device=device, dtype=torch.bfloat16) * std
            weight = random if given is None else given[f"{name}.weight"].to(device)
            bias = torch.zeros(size) if given is None else given.get(f"{name}.bias")
            stack.fill(n, weight, bias)
    for name, p in model.named_parameters():
        if given is not None and id(p) not in in_stacks:
            p.copy_(given[name])
        elif id(p) not in in_stacks:
            p.normal_(std=0.02) if p.dim() > 1 else p.fill_(float(model.config.model_type != "gemma2"))


@torch.no_grad()
def pack_codes(model: PreTrainedModel) -> None:
    """int8 codes, a scale for every 128 inputs, in place of the decoder's weights (rounded to the nearest)."""
    for parent in list(model.model.modules()):
        for name, layer in list(parent.named_children()):
            if isinstance(layer, nn.Linear):
                weight_OGJ = layer.weight.unflatten(1, (-1, 128))
                scales_OG = (weight_OGJ.abs().amax(2) / 127).clamp(min=1e-8)
                steps_OGJ = (weight_OGJ.float() / scales_OG[..., None].float()).round()
                codes_OI = steps_OGJ.clamp(-127, 127).to(torch.int8).flatten(1)
                packed = Int8Linear(layer, [0, 0], [0, 0])
                packed.codes_OI = nn.Parameter(codes_OI, requires_grad=False)
                packed.scales_OG = nn.Parameter(scales_OG, requires_grad=False)
                del packed.weight_packed, packed.weight_scale, packed.weight_shape
                setattr(parent, name, packed)
