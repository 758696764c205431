"""A model's files before any work: whether they are all there, whole, and of a kind that is read.

Of weights only the headers are looked at, so that it takes no time. Bits that changed within them are not seen.
"""

from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from tiebreak.errors import TiebreakError
from tiebreak.model import gguf, hub

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
_TEXTS = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "generation_config.json")


def require(place: Path, mend: str = gguf.AGAIN) -> None:
    """Look at a model folder or a GGUF file. `mend` is what its user can do about damage.

    Raises TiebreakError for one that no model could be trained from.
    """
    if place.is_file():
        gguf.require(place, mend)
        return
    if missing := hub.missing_file(place):
        raise TiebreakError(f"{place} is not complete: it has no {missing}; {mend}")
    config = hub.read_json(place / "config.json", mend)
    if "model_type" not in config:
        raise TiebreakError(f"{place / 'config.json'} names no model_type, so it is no model's; {mend}")
    if scheme := config.get("quantization_config"):
        raise quantised(place, scheme)
    _require_sizes(place / "config.json", config, mend)
    for name in _TEXTS:
        if (place / name).is_file():
            hub.read_json(place / name, mend)
    held = {file.name: _tensors(file, mend) for file in sorted(place.glob("*.safetensors"))}
    for tensor, name in hub.shards(place, mend).items():
        if tensor not in held[name]:
            raise TiebreakError(f"{place / name} lacks {tensor}, which {hub.INDEX} says is in it; {mend}")


def _require_sizes(file: Path, config: dict[str, Any], mend: str) -> None:
    """Check that a config.json asks for no more than models have. Raises TiebreakError with the key and its value."""
    text = config.get("text_config")
    for section in (config, text if isinstance(text, dict) else {}):
        for key, most in _MOST.items():
            value = section.get(key)
            if isinstance(value, (int, float)) and not 0 <= value <= most:
                hint = "a judge has three, so that key may go; " if key == "num_labels" else ""
                raise TiebreakError(
                    f"{file} says {key}: {value:.15g}, and valid is 0 to {most:,}; {hint}{mend}"
                )


def quantised(folder: Path, scheme: dict[str, Any]) -> TiebreakError:
    """The refusal of a folder whose weights are quantised."""
    return TiebreakError(
        f"{folder} is quantised ({scheme.get('quant_method')}); training and merging need weights of 16 or 32 "
        "bits: name the model that it was made from, and choose models.*.precision for smaller ones"
    )


def _tensors(file: Path, mend: str) -> set[str]:
    """The names of a file's tensors. Its header is checked against its size."""
    try:
        with safe_open(file, framework="numpy") as opened:
            return set(opened.keys())
    except (OSError, ValueError, SafetensorError) as error:
        size = file.stat().st_size
        raise TiebreakError(f"{file} ({size} bytes) is damaged or breaks off: {error}; {mend}") from None
