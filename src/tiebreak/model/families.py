"""Families of decoders: those that are verified, and the refusal of what cannot be computed in packed documents.

`require` looks at a config.json alone. A family that is not on the list is compared with plain transformers
(`model.self_check`), and so is a configuration of a listed one that sets what changes attention.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from tiebreak.errors import TiebreakError

VERIFIED = (
    "arcee", "diffllama", "exaone4", "gemma", "gemma2", "gemma3_text", "glm", "glm4", "helium", "jetmoe", "llama",
    "ministral3", "mistral", "mixtral", "olmo", "olmo2", "olmo3", "persimmon", "phi", "phi3", "qwen2", "qwen2_moe",
    "qwen3", "qwen3_moe", "seed_oss", "smollm3", "starcoder2",
)  # fmt: skip
"""The values of model_type whose tiny models a test compares with plain transformers."""
_ROPES = {"default", "linear", "llama3", "yarn", "longrope", "su", "dynamic"}
_BY_LENGTH = {"longrope", "su", "dynamic"}
"""Rotary embeddings that depend on the longest row of a forward, beyond a number of positions."""
_LAYERS = {"full_attention", "sliding_attention"}
_BOTH_SIDES = ("use_bidirectional_attention", "is_encoder_decoder")


def require(name: str, config: Mapping[str, Any]) -> None:
    """Refuse a configuration whose packed documents would not be what plain transformers computes.

    name: the model's folder or hub id. Raises TiebreakError that names the family and what differs.
    """
    if is_verified(config):
        return
    kind = config.get("model_type")
    if why := _unfit(config):
        raise refusal(name, kind, why)
    from tiebreak.model import self_check

    if why := self_check.problem(config):
        raise refusal(name, kind, why)


def is_mixture(config: Mapping[str, Any]) -> bool:
    """True for a mixture of experts."""
    return any(
        isinstance(config.get(key), int) and config[key] > 1
        for key in ("num_experts", "num_local_experts", "n_routed_experts")
    )


def refusal(name: str, kind: Any, why: str) -> TiebreakError:
    return TiebreakError(
        f"{name} is of the family {kind!r}, which tiebreak cannot run: {why}. "
        f"Verified families: {', '.join(VERIFIED)}"
    )


def is_verified(config: Mapping[str, Any]) -> bool:
    """True if the family is on the list and nothing is set that changes which tokens attend to which."""
    return (
        config.get("model_type") in VERIFIED
        and not any(config.get(key) for key in _BOTH_SIDES)
        and {rope_type(rope) for rope in _ropes(config)} <= _ROPES
        and {str(kind) for kind in config.get("layer_types") or ()} <= _LAYERS
    )


def most_positions(config: Mapping[str, Any]) -> int | None:
    """The most tokens of a row: as many positions as the model knows, or before its rotary embedding changes.

    None where the configuration does not say.
    """
    limits = [config.get("max_position_embeddings")]
    for rope in _ropes(config):
        if rope_type(rope) in _BY_LENGTH:
            key = "original_max_position_embeddings"
            limits += [rope.get(key), config.get(key)]
    return min((limit for limit in limits if isinstance(limit, int) and limit > 0), default=None)


def too_long(row: int, most: int) -> TiebreakError:
    return TiebreakError(
        f"a row has {row} tokens, and the model {most} positions; a lower max_tokens in the recipe cuts rows"
    )


def rope_type(rope: Mapping[str, Any]) -> str:
    return str(rope.get("rope_type") or rope.get("type") or "default")


def _ropes(config: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The settings of rotary embeddings: one, or one for each type of layer."""
    found = config.get("rope_parameters") or config.get("rope_scaling") or {}
    by_layer_type = bool(found) and all(isinstance(rope, Mapping) for rope in found.values())
    yield from found.values() if by_layer_type else [found]


def _unfit(config: Mapping[str, Any]) -> str:
    """What config.json itself says against a model; empty if nothing does."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    if config.get("model_type") not in CONFIG_MAPPING_NAMES:
        own = "it brings its own code (auto_map), and a model's own code is never run" * (
            "auto_map" in config
        )
        return own or "transformers does not know it"
    if config.get("is_encoder_decoder"):
        return "it is an encoder and a decoder, and a judge is a decoder alone"
    if inner := config.get("text_config"):
        kind = inner.get("model_type") if isinstance(inner, Mapping) else None
        return f"it reads more than text, around a decoder {kind!r}; name a folder of that decoder alone"
    return ""
