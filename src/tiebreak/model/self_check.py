"""Self-check of a decoder's family: packed documents against plain transformers, in fp32 on the CPU.

A tiny random model of the configuration's own class reads a few short documents alone, together and beside a long one.
So whatever packing does not know of a family (attention sinks, recurrent layers, attention to both sides) is seen
before any work.
"""

import copy
import json
from collections.abc import Iterator, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from tiebreak.errors import TiebreakError
from tiebreak.limits import RAISE, raised
from tiebreak.model import attention, families
from tiebreak.model.decoders import (
    CONFIG_MAPPING,
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
    AutoModelForSequenceClassification,
    PreTrainedConfig,
    PreTrainedModel,
)
from tiebreak.model.fast.fuse import fuse
from tiebreak.tokens.packing import Document, pack

if TYPE_CHECKING:
    from tiebreak.model.classifier import Classifier

VOCABULARY = 128
WINDOW = 24
"""Sliding windows and chunks of the tiny model: shorter than the long documents, longer than the shortest."""
LENGTHS = (5, 17, 11)
LONG = 70
TOLERANCE = 1e-3
"""The largest difference allowed, in standard deviations of the reference; right ones are below 1e-4."""
_LAYERS = 4
"""The fewest layers of the tiny model: most patterns of layers repeat after two or four."""
_SMALLER = {
    "vocab_size": VOCABULARY,
    "vocab_size_per_layer_input": VOCABULARY,
    "intermediate_size": 48,
    "moe_intermediate_size": 32,
    "shared_expert_intermediate_size": 32,
    "num_experts": 16,
    "num_local_experts": 16,
    "n_routed_experts": 16,
    "num_experts_per_tok": 2,
    "num_experts_per_token": 2,
    "sliding_window": WINDOW,
    "attention_chunk_size": WINDOW,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
"""Sizes of the tiny model, where the configuration has larger ones."""


def problem(found: Mapping[str, Any]) -> str:
    """What differs for a tiny model of the class that a config.json names; empty if nothing does."""
    return _problem(json.dumps(dict(found), sort_keys=True, default=str))


@cache
def _problem(text: str) -> str:
    from tiebreak.model.classifier import quiet  # which looks here before it loads

    found = json.loads(text)
    try:
        with torch.random.fork_rng(devices=[]), quiet():
            torch.manual_seed(0)
            return next(_differences(CONFIG_MAPPING[found["model_type"]].from_dict(found)), "")
    except TiebreakError as error:
        return str(error)
    except Exception as error:  # a class of transformers may raise anything
        return f"a tiny model of it raises {type(error).__name__}: {' '.join(str(error).split()):.200}"


_MOST_LAYERS, _MOST_WEIGHTS = 1000, 200_000_000
"""A configuration with more layers, or whose tiny model would have more weights, is no model's."""


def tiny(config: PreTrainedConfig) -> PreTrainedConfig:
    """A copy of a configuration with few layers, one of each type at the least, and a small width.

    Raises TiebreakError for more layers than any model has.
    """
    if config.num_hidden_layers > raised(_MOST_LAYERS):
        raise TiebreakError(f"it claims {config.num_hidden_layers} layers; {RAISE}")
    small = copy.deepcopy(config)
    heads = config.num_attention_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // heads
    kept = _layers(config)
    for key, value in vars(config).items():
        if isinstance(value, list | tuple) and len(value) == config.num_hidden_layers:
            setattr(small, key, [value[layer] for layer in kept])
        elif key in _SMALLER and isinstance(value, int) and not isinstance(value, bool):
            setattr(small, key, min(value, _SMALLER[key]))
    if getattr(config, "num_key_value_heads", heads) in (None, heads):
        small.num_key_value_heads = small.num_attention_heads
    small.num_hidden_layers = len(kept)
    small.hidden_size = small.num_attention_heads * size
    if getattr(config, "first_k_dense_replace", 0):
        small.first_k_dense_replace = 1
    for key in ("pad_token_id", "bos_token_id", "eos_token_id"):
        setattr(small, key, 0)
    return small


def _layers(config: PreTrainedConfig) -> list[int]:
    """Layers that show each combination of the settings that a configuration gives by layer, in their order."""
    count = config.num_hidden_layers
    by_layer = [v for v in vars(config).values() if isinstance(v, list | tuple) and len(v) == count]
    kinds = {str([values[layer] for values in by_layer]): layer for layer in reversed(range(count))}
    return sorted({*kinds.values(), *range(min(count, _LAYERS))})


def _differences(whole: PreTrainedConfig) -> Iterator[str]:
    if type(whole) not in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING:
        yield "transformers has no AutoModelForSequenceClassification of it"
    config = tiny(whole)
    yield from _unlike_a_decoder(config)
    ours, plain = _model(config, attention.NAME), _model(config, "eager")
    _randomise(ours)
    plain.load_state_dict(ours.state_dict())
    short = [_document(length, seed) for seed, length in enumerate(LENGTHS)]
    long = _document(min(LONG, families.most_positions(config.to_dict()) or LONG), len(short))
    documents = [*short, long]
    expected = torch.cat([_plain_logits(plain, document) for document in documents])
    scale = float(expected.std())
    if not scale > 1e-3:  # nor is NaN
        yield "a tiny model of it computes nothing that could be compared"
    for case, got in _packed_logits(ours, short, long):
        off = float((got - expected[: len(got)]).abs().max()) / scale
        if not off < TOLERANCE:
            yield f"for {case} its logits are {off:.2g} standard deviations off plain transformers'"


def _unlike_a_decoder(config: PreTrainedConfig) -> Iterator[str]:
    """What a class lacks that packed documents run through, or has too much of, without its weights in memory."""
    with torch.device("meta"):
        model = _model(config, "eager")
    if (weights := sum(p.numel() for p in model.parameters())) > raised(_MOST_WEIGHTS):
        yield f"a tiny model of it would have {weights} weights; {RAISE}"
    parts = {"model.layers": getattr(getattr(model, "model", None), "layers", None)}
    parts["model.embed_tokens"] = getattr(getattr(model, "model", None), "embed_tokens", None)
    parts["score"] = getattr(model, "score", None)
    for name, part in parts.items():
        if part is None:
            yield f"its class {type(model).__name__} has no {name}, which other decoders have"


def _packed_logits(
    model: PreTrainedModel, short: list[Document], long: Document
) -> Iterator[tuple[str, Tensor]]:
    """Logits of the short documents, some of them followed by the long one's, with what was packed."""
    from tiebreak.model.classifier import Classifier

    classifier = Classifier(model, None, head_trained=False)
    documents = [*short, long]
    yield "a document by itself", torch.cat([_logits(classifier, [document]) for document in documents])
    yield "documents packed together", _logits(classifier, short)
    yield "a short document before a long one", _logits(classifier, documents)
    yield "a short document after a long one", _logits(classifier, documents[::-1]).flip(0)
    fuse(model, "dense", torch.float32, "cpu", None, 0)
    yield "linear layers fused, as on a GPU,", _logits(Classifier(model, None, False), documents)


def _model(config: PreTrainedConfig, implementation: str) -> PreTrainedModel:
    model: PreTrainedModel = AutoModelForSequenceClassification.from_config(
        copy.deepcopy(config),
        attn_implementation=implementation,
        dtype=torch.float32,
        trust_remote_code=False,
    )
    return model.eval().requires_grad_(False)


def _randomise(model: PreTrainedModel) -> None:
    """Weights large enough that logits show what a layer does; none stays zero or one, as biases and norms begin."""
    for parameter in model.parameters():
        noise = torch.randn_like(parameter)
        if parameter.ndim < 2:
            parameter.copy_(0.3 * noise + parameter.nan_to_num(0.0))
        else:
            parameter.copy_(noise * parameter.shape[-1] ** -0.5)


def _document(length: int, seed: int) -> Document:
    """Random tokens, none of them the padding's, which plain transformers would not pool."""
    return np.random.default_rng(seed).integers(1, VOCABULARY, length).astype(np.int32)


@torch.no_grad()
def _plain_logits(model: PreTrainedModel, document: Document) -> Tensor:
    logits: Tensor = model(input_ids=torch.from_numpy(document)[None].long(), use_cache=False).logits
    return logits


@torch.no_grad()
def _logits(classifier: "Classifier", documents: list[Document]) -> Tensor:
    return classifier.logits(pack(documents))
