"""Streaming loader of a decoder: reads tensor by tensor onto a device, and encodes each linear layer as it is read.

So a model never needs memory for all its 16-bit weights, only for one tensor of them at a time.
"""

from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor, nn

from tiebreak.errors import TiebreakError
from tiebreak.model import attention, hub
from tiebreak.model.decoders import (
    AutoModelForSequenceClassification,
    PreTrainedConfig,
    PreTrainedModel,
    no_init_weights,
    without_compiler,
)
from tiebreak.model.fast.fuse import fuse
from tiebreak.model.fast.fused_linears import Kind, fused_linears
from tiebreak.model.lora import HEAD
from tiebreak.recipe.models import Lora


def load(
    folder: Path,
    config: PreTrainedConfig,
    dtype: torch.dtype,
    device: str,
    kind: Kind | None = None,
    lora: Lora | None = None,
    seed: int = 0,
    encoded_on: str | None = None,
) -> tuple[PreTrainedModel, bool]:
    """Load a frozen classifier, and return with it whether the folder has a score head.

    With a `kind` its linear layers are fused and store their weights in that format, with adapters if `lora` is given.
    encoded_on: the device that encodes them, if not their own: a card and a CPU round differently.
    Raises TiebreakError for a folder without safetensors, or one that lacks weights of the decoder.
    """
    model = empty_model(config, dtype, device, kind, lora, seed)
    filled = _fill(model, folder, encoded_on or device)
    missing = set(_names(model)) - filled
    if missing - {HEAD}:
        raise lacking(folder, missing - {HEAD}, filled - set(_names(model)) - {"lm_head.weight"}, kind)
    return model, HEAD not in missing


def lacking(folder: Path, missing: set[str], unknown: set[str], kind: Kind | None) -> TiebreakError:
    """The refusal of a folder without weights of the decoder. unknown: the stored names that its class does not have."""
    if kind and unknown:  # experts are stored one by one, and held in one tensor
        return TiebreakError(
            f"{folder} stores {min(unknown)} where transformers holds {min(missing)}, so that its weights cannot be "
            f"encoded in {kind} one by one: choose precision bf16, fp16 or fp32 for this model"
        )
    return TiebreakError(f"{folder} lacks weights, {sorted(missing)[:3]} among {len(missing)}")


def misfit(folder: Path, config: PreTrainedConfig) -> str | None:
    """What keeps a folder's tensors from being the weights of its configuration, head apart; None if nothing does.

    A shape that differs, or fewer numbers than the class has: room for the others would be made, whatever they claim.
    """
    expected = {name: p.shape for name, p in _skeleton(config, torch.bfloat16).named_parameters()}
    held, names = 0, set()
    for path in _files(folder):
        with safe_open(path, framework="pt") as file:
            for stored in file.keys():  # noqa: SIM118
                name, shape = _classifier_name(stored), torch.Size(file.get_slice(stored).get_shape())
                held += shape.numel()
                names.add(name)
                if name != HEAD and expected.get(name, shape) != shape:
                    return (
                        f"{stored} is {list(shape)} in {path.name}, and {list(expected[name])} by config.json"
                    )
    needed = sum(shape.numel() for name, shape in expected.items() if name != HEAD)
    if needed > held:
        lost = sorted(set(expected) - names - {HEAD})
        return f"it lacks weights, {lost[:3]} among {len(lost)}: {held} numbers, and {needed} by config.json"
    return None


def empty_model(
    config: PreTrainedConfig,
    dtype: torch.dtype,
    device: str,
    kind: Kind | None = None,
    lora: Lora | None = None,
    seed: int = 0,
) -> PreTrainedModel:
    """A classifier with uninitialised weights and with initialised adapters."""
    model = _skeleton(config, dtype)
    if kind is not None:
        fuse(model, kind, dtype, device, lora, seed)
    _materialise(model, device)
    return model


def has_plain_names(folder: Path, config: PreTrainedConfig) -> bool:
    """True if the folder's files name the decoder's weights as transformers' class does; some need renaming."""
    return not set(_names(_skeleton(config, torch.bfloat16))) - {HEAD} - set(_stored_names(folder))


def count_parameters(config: PreTrainedConfig) -> int:
    """The number of weights of a classifier of this configuration."""
    return sum(p.numel() for p in _skeleton(config, torch.bfloat16).parameters())


@without_compiler()  # torch calls it on the meta device
def _skeleton(config: PreTrainedConfig, dtype: torch.dtype) -> PreTrainedModel:
    """A classifier without weights, on the meta device."""
    with torch.device("meta"), no_init_weights():
        model: PreTrainedModel = AutoModelForSequenceClassification.from_config(
            config, attn_implementation=attention.NAME, dtype=dtype, trust_remote_code=False
        )
    return model.requires_grad_(False).eval()


def _materialise(model: PreTrainedModel, device: str) -> None:
    """Allocate all but the fused layers, and compute the buffers that no file holds, such as rotary frequencies."""
    for module in model.modules():
        buffers = {name: b for name, b in module.named_buffers(recurse=False) if b.is_meta}
        for name, buffer in buffers.items():
            setattr(module, name, torch.empty_like(buffer, device=device))
        if buffers:
            model._init_weights(module)
        for name, parameter in module.named_parameters(recurse=False):
            if parameter.is_meta:
                empty = torch.empty_like(parameter, device=device)
                setattr(module, name, nn.Parameter(empty, requires_grad=False))


def _names(model: PreTrainedModel) -> Iterator[str]:
    """The names in the plain model of the weights that the files should hold."""
    in_fused = {id(p) for stack in fused_linears(model) for p in stack.parameters()}
    yield from (name for name, p in model.named_parameters() if id(p) not in in_fused)
    for stack in fused_linears(model):
        yield from (f"{name}.weight" for name in stack.names)
        yield from (f"{name}.bias" for name in stack.names if stack.bias is not None)


def _fill(model: PreTrainedModel, folder: Path, device: str) -> set[str]:
    """Copy every tensor of the folder into the model; returns the names of these tensors."""
    fused_by_name = {name: (stack, n) for stack in fused_linears(model) for n, name in enumerate(stack.names)}
    plain = dict(model.named_parameters())
    filled = set()
    for name, tensor in _tensors(folder, device):
        layer, _, part = name.rpartition(".")
        if layer in fused_by_name:
            stack, member = fused_by_name[layer]
            stack.fill(member, **{part: tensor})
        elif name == HEAD and tensor.shape != plain[HEAD].shape:
            continue  # of another task, such as a reward model
        elif name in plain:
            plain[name].data.copy_(tensor)
        filled.add(name)
    return filled


def _tensors(folder: Path, device: str) -> Iterator[tuple[str, Tensor]]:
    here = str(torch.empty(0, device=device).device)  # "cuda" is torch's current card, but safetensors' first
    for path in _files(folder):
        with safe_open(path, framework="pt", device=here) as file:
            for name in file.keys():  # noqa: SIM118
                yield _classifier_name(name), file.get_tensor(name)


def _stored_names(folder: Path) -> Iterator[str]:
    """The names of the tensors in the folder, from the files' headers."""
    for path in _files(folder):
        with safe_open(path, framework="pt") as file:
            yield from map(_classifier_name, file.keys())


def _files(folder: Path) -> list[Path]:
    """The files of the weights, as transformers finds them; a baseline may ship beside them."""
    whole = folder / "model.safetensors"
    shards = sorted({folder / name for name in hub.shards(folder).values()})
    files = shards or ([whole] if whole.is_file() else sorted(folder.glob("*.safetensors")))
    if not files:
        raise TiebreakError(f"{folder} holds no safetensors file")
    return files


def _classifier_name(name: str) -> str:
    """A tensor's name in a classifier; names of a bare decoder lack the prefix."""
    return name if name.startswith(("model.", "score.", "lm_head.")) else f"model.{name}"
