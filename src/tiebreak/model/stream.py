"""Load a decoder onto a device file by file, each linear layer encoded as it arrives.

A model whose 16-bit weights fit no memory at hand is never held in 16 bits: one tensor is, at a time.
"""

from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor, nn
from transformers import AutoModelForSequenceClassification, PreTrainedConfig, PreTrainedModel

from tiebreak.errors import TiebreakError
from tiebreak.model import attention
from tiebreak.model.fuse import fuse
from tiebreak.model.lora import HEAD
from tiebreak.model.stack import Kind, stacks
from tiebreak.recipe import Lora


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
    """A frozen classifier, and whether the folder had a score head.

    With a `kind` its linear layers are stacks that hold their weights so, beside adapters if `lora` says so.
    encoded_on: the device that encodes them, if not the one that they lie on: a card and a CPU round otherwise.
    Raises TiebreakError for a folder without safetensors, or one that lacks weights of the decoder.
    """
    model = empty(config, dtype, device, kind, lora, seed)
    missing = set(_names(model)) - _fill(model, folder, encoded_on or device)
    if lacking := missing - {HEAD}:
        raise TiebreakError(f"{folder} lacks weights, {sorted(lacking)[:3]} among {len(lacking)}")
    return model, HEAD not in missing


def empty(
    config: PreTrainedConfig,
    dtype: torch.dtype,
    device: str,
    kind: Kind | None = None,
    lora: Lora | None = None,
    seed: int = 0,
) -> PreTrainedModel:
    """A classifier with memory for its weights, which are undefined, and with adapters as they begin."""
    model = _skeleton(config, dtype)
    if kind is not None:
        fuse(model, kind, dtype, device, lora, seed)
    _materialise(model, device)
    return model


def covers(folder: Path, config: PreTrainedConfig) -> bool:
    """Whether the folder's files name the decoder's weights as transformers' class does; some need renaming."""
    return not set(_names(_skeleton(config, torch.bfloat16))) - {HEAD} - set(_stored(folder))


def parameters(config: PreTrainedConfig) -> int:
    """How many weights a classifier of this configuration has."""
    return sum(p.numel() for p in _skeleton(config, torch.bfloat16).parameters())


def _skeleton(config: PreTrainedConfig, dtype: torch.dtype) -> PreTrainedModel:
    """A classifier without weights, on the meta device."""
    with torch.device("meta"):
        model: PreTrainedModel = AutoModelForSequenceClassification.from_config(
            config, attn_implementation=attention.NAME, dtype=dtype
        )
    return model.requires_grad_(False).eval()


def _materialise(model: PreTrainedModel, device: str) -> None:
    """Memory for what is no stack, and the buffers that no file holds, such as rotary frequencies."""
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
    """The weights that the files should hold, under the plain model's names."""
    in_stacks = {id(p) for stack in stacks(model) for p in stack.parameters()}
    yield from (name for name, p in model.named_parameters() if id(p) not in in_stacks)
    for stack in stacks(model):
        yield from (f"{name}.weight" for name in stack.names)
        yield from (f"{name}.bias" for name in stack.names if stack.bias is not None)


def _fill(model: PreTrainedModel, folder: Path, device: str) -> set[str]:
    """Copy every tensor of the folder to its place; returns the names that were there."""
    places = {name: (stack, n) for stack in stacks(model) for n, name in enumerate(stack.names)}
    plain = dict(model.named_parameters())
    filled = set()
    for name, tensor in _tensors(folder, device):
        layer, _, part = name.rpartition(".")
        if layer in places:
            stack, member = places[layer]
            stack.fill(member, **{part: tensor})
        elif name == HEAD and tensor.shape != plain[HEAD].shape:
            continue  # of a model of something else, such as a reward
        elif name in plain:
            plain[name].data.copy_(tensor)
        filled.add(name)
    return filled


def _tensors(folder: Path, device: str) -> Iterator[tuple[str, Tensor]]:
    here = str(torch.empty(0, device=device).device)  # "cuda" is torch's current card, but safetensors' first
    for path in _files(folder):
        with safe_open(path, framework="pt", device=here) as file:
            for name in file.keys():  # noqa: SIM118
                yield _full(name), file.get_tensor(name)


def _stored(folder: Path) -> Iterator[str]:
    """The names of the tensors in the folder, from the files' headers."""
    for path in _files(folder):
        with safe_open(path, framework="pt") as file:
            yield from map(_full, file.keys())


def _files(folder: Path) -> list[Path]:
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise TiebreakError(f"{folder} holds no safetensors file")
    return files


def _full(name: str) -> str:
    """A tensor's name in a classifier; a bare decoder's have no prefix."""
    return name if name.startswith(("model.", "score.", "lm_head.")) else f"model.{name}"
