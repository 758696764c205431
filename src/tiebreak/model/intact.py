"""A model's files before any work: whether they are all there, whole, and of a kind that is read.

Of weights only the headers are looked at, so that it takes no time, unless nobody verified the family. Bits that changed
within them are not seen.
"""

from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from tiebreak import json_files
from tiebreak.errors import TiebreakError
from tiebreak.model import config_facts, families, gguf, hub, tokenizer_facts
from tiebreak.regular_file import require_regular

_TEXTS = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "generation_config.json")
_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json")
_TYPES = ("F64", "F32", "F16", "BF16")
_PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt")


def require(place: Path, mend: str = gguf.AGAIN) -> None:
    """Look at a model folder or a GGUF file. `mend` is what its user can do about damage.

    Raises TiebreakError for one that no model could be trained from.
    """
    if place.is_file():
        gguf.require(place, mend)
        return
    for file in _files(place):
        require_regular(file, mend)
        if file.is_symlink() and not file.exists():
            raise TiebreakError(f"{file} is a link to a file that is not there; {mend}")
    if missing := hub.missing_file(place):
        raise _incomplete(place, missing, mend)
    config = require_plain(place, mend)
    for name in _TEXTS:
        if (place / name).is_file():
            json_files.read_object(place / name, mend)
    held = {file.name: _tensors(file, mend) for file in sorted(place.glob("*.safetensors"))}
    for tensor, name in hub.shards(place, mend).items():
        if tensor not in held[name]:
            raise TiebreakError(f"{place / name} lacks {tensor}, which {hub.INDEX} says is in it; {mend}")
    _require_one_of_each(place, held)
    shapes = {name: shape for tensors in held.values() for name, shape in tensors.items()}
    if not shapes:
        raise TiebreakError(f"{place}: the files hold no weights; {mend}")
    config_facts.require(place / "config.json", config, shapes, mend)
    families.require(str(place), config)
    if "vocab_size" in config:
        tokenizer_facts.require_folder(place, config["vocab_size"], mend)
    if not families.is_verified(config):
        from tiebreak.model import weights_check

        weights_check.require_small(place)


def require_plain(place: Path, mend: str) -> dict[str, Any]:
    """The config.json of a model folder, whose weights need not be there yet.

    Raises TiebreakError for an adapter, a quantised model and what names no model.
    """
    if (place / hub.ADAPTER).exists():
        raise hub.is_adapter(str(place))
    config = json_files.read_object(place / "config.json", mend)
    if "model_type" not in config:
        raise TiebreakError(f"{place / 'config.json'} names no model_type, so it is no model's; {mend}")
    if scheme := config.get("quantization_config"):
        raise quantised(place, scheme)
    return config


def quantised(folder: Path, scheme: Any) -> TiebreakError:
    """The refusal of a folder whose weights are quantised."""
    method = scheme.get("quant_method") if isinstance(scheme, dict) else scheme
    return TiebreakError(
        f"{folder} is quantised ({method}); training and merging need weights of 16 or 32 "
        "bits: name the model that it was made from, and choose models.*.precision for smaller ones"
    )


def _files(place: Path) -> list[Path]:
    """What a model is read from, under the names that must be files."""
    named = [place / name for name in ("config.json", hub.INDEX, *_TEXTS, *_TOKENIZERS)]
    return [*named, *sorted(place.glob("*.safetensors"))]


def _incomplete(place: Path, missing: str, mend: str) -> TiebreakError:
    pickled = sorted(file.name for pattern in _PICKLED for file in place.glob(pattern))
    if missing == "model.safetensors" and pickled:
        return TiebreakError(
            f"{place} has its weights in {pickled[0]}, and only safetensors are read, because such a file can run "
            "code. If you trust it, convert it: python -c 'from transformers import AutoModelForCausalLM as M; "
            f'M.from_pretrained("{place}", dtype="auto").save_pretrained("{place}")\''
        )
    return TiebreakError(f"{place} is not complete: it has no {missing}; {mend}")


def _require_one_of_each(place: Path, held: dict[str, dict[str, tuple[int, ...]]]) -> None:
    """Raise TiebreakError for a tensor in two files, of which nobody could say which counts."""
    first: dict[str, str] = {}
    for file, tensors in held.items():
        for tensor in tensors:
            if (other := first.setdefault(tensor, file)) != file:
                raise TiebreakError(
                    f"{place} holds {tensor} twice, in {other} and in {file}; delete the file that is not the model's"
                )


def _tensors(file: Path, mend: str) -> dict[str, tuple[int, ...]]:
    """The shapes of a file's tensors by name. Its header is checked against its size."""
    try:
        with safe_open(file, framework="numpy") as opened:
            slices = {name: opened.get_slice(name) for name in opened.keys()}  # noqa: SIM118
            shapes = {name: tuple(part.get_shape()) for name, part in slices.items()}
            types = {name: str(part.get_dtype()) for name, part in slices.items()}
    except (OSError, ValueError, SafetensorError) as error:
        size = file.stat().st_size
        raise TiebreakError(f"{file} ({size} bytes) is damaged or breaks off: {error}; {mend}") from None
    for name, dtype in types.items():
        if name.endswith("weight") and dtype not in _TYPES:
            raise TiebreakError(
                f"{file} holds {name} of the type {dtype}; weights are of {', '.join(_TYPES)}: "
                "name the model that it was made from"
            )
    return shapes
