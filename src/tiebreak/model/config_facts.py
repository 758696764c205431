"""Facts of a decoder's config.json: sizes that are numbers, fit each other, and fit the weights beside it.

transformers fills what is missing with the sizes of another model, and makes room for whatever a file claims.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tiebreak.errors import TiebreakError, nearest
from tiebreak.limits import RAISE, raised
from tiebreak.model import families

Shapes = Mapping[str, tuple[int, ...]]
"""The shape of each tensor in a model's files, by its name."""

_SIZES = ("hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size")
_OPTIONAL = (
    "num_key_value_heads",
    "head_dim",
    "intermediate_size",
    "max_position_embeddings",
)
_MOST = {
    "num_labels": 10**5,
    "vocab_size": 10**8,
    "hidden_size": 10**6,
    "intermediate_size": 10**7,
    "num_hidden_layers": 10**4,
    "num_attention_heads": 10**5,
    "num_key_value_heads": 10**5,
    "head_dim": 10**5,
}
"""Far more than any model has. transformers makes what config.json says, until memory is out."""
_EPSILON, _SHARE, _FACTOR = (1e-30, 0.1), (0, 1), (1e-6, 10**6)
_RANGES = {
    "rms_norm_eps": _EPSILON,
    "norm_eps": _EPSILON,
    "norm_epsilon": _EPSILON,
    "layer_norm_eps": _EPSILON,
    "layer_norm_epsilon": _EPSILON,
    "rope_theta": (2, 10**12),
    "factor": _FACTOR,
    "attention_factor": _FACTOR,
    "partial_rotary_factor": (1e-3, 1),
    "initializer_range": (0, 10),
    "attention_dropout": _SHARE,
    "hidden_dropout": _SHARE,
    "residual_dropout": _SHARE,
    "embedding_dropout": _SHARE,
    "query_pre_attn_scalar": _FACTOR,
    "attn_logit_softcapping": _FACTOR,
    "sliding_window": (0, 10**12),
}
"""Of numbers, wherever in a configuration: outside of these a model computes nothing, and training gets the blame."""
_ACTIVATIONS = (
    "gelu", "gelu_10", "gelu_accurate", "gelu_fast", "gelu_new", "gelu_python", "gelu_python_tanh", "gelu_pytorch_tanh",
    "hardswish", "laplace", "leaky_relu", "linear", "mish", "prelu", "quick_gelu", "relu", "relu2", "relu6", "sigmoid", "silu",
    "sqrtsoftplus", "swish", "tanh", "xielu",
)  # fmt: skip
"""Those of transformers, which a test compares."""
_KINDS = {
    **dict.fromkeys(("attention_bias", "mlp_bias", "tie_word_embeddings", "use_cache"), bool),
    **dict.fromkeys(("pad_token_id", "bos_token_id", "num_labels"), int),
    "architectures": list,
    "id2label": dict,
    "label2id": dict,
}
"""Of values that transformers takes as they are, and stumbles over once it loads."""
_IN_JSON = {bool: "true or false", int: "whole number", list: "list", dict: "object"}
_TYPES = ("float32", "float16", "bfloat16", "float64", "auto")


def require(file: Path, config: Mapping[str, Any], shapes: Shapes, mend: str) -> None:
    """Raise TiebreakError with the first fact that no decoder has, or that its weights contradict."""
    if problem := next(_problems(config, shapes), ""):
        raise TiebreakError(f"{file}: {problem}; correct it, or {mend}")


def _problems(config: Mapping[str, Any], shapes: Shapes) -> Iterator[str]:
    kind = config["model_type"]
    if not isinstance(kind, str):
        yield f"model_type is {kind!r}, no name"
    if kind in families.VERIFIED:
        yield from (f"{key} is missing" for key in _SIZES if key not in config)
    for key in (*_SIZES, *(_OPTIONAL if kind in families.VERIFIED else ())):
        value = config.get(key)
        unset = value is None and (key in _OPTIONAL or key not in config)
        if not unset and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
            yield f"{key} is {value!r}, not a whole number above 0"
    dtype = config.get("dtype", config.get("torch_dtype"))
    if dtype is not None and str(dtype).removeprefix("torch.") not in _TYPES:
        yield f"dtype is {dtype!r}; known are {', '.join(_TYPES)}"
    for key, expected in _KINDS.items():
        if (value := config.get(key)) is not None and type(value) is not expected:
            yield f"{key} is {value!r:.100}, no {_IN_JSON[expected]}"
    for key in ("hidden_act", "hidden_activation"):
        if (name := config.get(key)) is not None and name not in _ACTIVATIONS:
            yield f"{key} is {name!r:.100}; {nearest(str(name), _ACTIVATIONS)}"
    for key in ("rope_parameters", "rope_scaling"):
        if not isinstance(config.get(key) or {}, Mapping):
            yield f"{key} is {config[key]!r}, no object"
    yield from _impossible_numbers(config)
    names, layers = _names_by_layer(shapes), config.get("num_hidden_layers", 0)
    if names and (layers > len(names) or (kind in families.VERIFIED and layers != len(names))):
        yield f"num_hidden_layers is {layers}, and the files hold {len(names)} layers"
    if kind in families.VERIFIED:
        yield from _unequal_parts(config)
        yield from _contradictions(config, shapes)
    yield from _beyond_models(config)


def _impossible_numbers(section: Mapping[str, Any], within: str = "") -> Iterator[str]:
    """Numbers that are none, or outside of _RANGES, in a configuration and its parts."""
    for key, value in section.items():
        if isinstance(value, Mapping):
            yield from _impossible_numbers(value, f"{within}{key}.")
        elif key in _RANGES and value is not None:
            low, high = _RANGES[key]
            if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
                yield f"{within}{key} is {value!r:.100}, and valid is {low:g} to {high:g}"
        elif value != value:
            yield f"{within}{key} is {value!r}, no number"


def _beyond_models(config: Mapping[str, Any]) -> Iterator[str]:
    """Sizes that no model has, also in the part for text of a model that reads more."""
    text = config.get("text_config")
    for section in (config, text if isinstance(text, Mapping) else {}):
        for key, most in _MOST.items():
            value = section.get(key)
            if isinstance(value, int | float) and not 0 <= value <= raised(most):
                hint = "; a judge has three, so that key may go" if key == "num_labels" else ""
                yield f"{key} is {value:.15g}, and valid is 0 to {raised(most):,}{hint} ({RAISE})"


def _unequal_parts(config: Mapping[str, Any]) -> Iterator[str]:
    heads, hidden = config["num_attention_heads"], config["hidden_size"]
    if not config.get("head_dim") and hidden % heads:
        yield f"hidden_size {hidden} is no multiple of num_attention_heads {heads}"
    if heads % (config.get("num_key_value_heads") or heads):
        yield (
            f"num_attention_heads {heads} is no multiple of num_key_value_heads {config['num_key_value_heads']}"
        )
    kinds = config.get("layer_types")
    if kinds is not None and (not isinstance(kinds, list) or len(kinds) != config["num_hidden_layers"]):
        yield f"layer_types does not name a type for each of num_hidden_layers {config['num_hidden_layers']}"


def _contradictions(config: Mapping[str, Any], shapes: Shapes) -> Iterator[str]:
    """What the weights contradict, as far as their names are those of most decoders."""
    hidden, inner = config["hidden_size"], config.get("intermediate_size")
    expected = {"embed_tokens.weight": (config["vocab_size"], hidden)}
    if inner:
        expected["layers.0.mlp.up_proj.weight"] = (inner, hidden)
    for name, shape in expected.items():
        for stored in (shapes[prefix + name] for prefix in ("model.", "") if prefix + name in shapes):
            if stored != shape:
                yield f"it makes {name} {list(shape)}, and the file holds {list(stored)}"
    if not families.is_mixture(config):  # some of its layers have experts, others none
        names = _names_by_layer(shapes)
        every = set().union(*names.values())
        lacks = ((layer, every - held) for layer, held in names.items())
        yield from (f"layer {layer} lacks {min(lost)}, which others have" for layer, lost in lacks if lost)


def _names_by_layer(shapes: Shapes) -> dict[int, set[str]]:
    """The names of the tensors of each layer, without its number."""
    found: dict[int, set[str]] = {}
    for name in shapes:
        first, _, rest = name.removeprefix("model.").partition(".")
        layer, _, inner = rest.partition(".")
        if first == "layers" and layer.isdecimal():
            found.setdefault(int(layer), set()).add(inner)
    return found
