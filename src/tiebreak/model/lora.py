"""LoRA adapters (Hu et al. 2021, arXiv:2106.09685) on every linear layer of a frozen decoder.

y = W x + (alpha / rank) B A x. The master weights A and B are fp32 and cast to the type of x. Files are in peft's
format, read and written; peft itself is not used.
"""

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from tiebreak.errors import TiebreakError
from tiebreak.model.decoders import PreTrainedModel
from tiebreak.model.fast.fused_linears import FusedLinear
from tiebreak.output import write_atomically
from tiebreak.recipe.models import Lora

PREFIX = "base_model.model."
HEAD = "score.weight"
WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
_UNSUPPORTED = (
    "use_rslora", "use_dora", "rank_pattern", "alpha_pattern", "bias", "lora_bias", "layer_replication",
    "target_parameters", "trainable_token_indices",
)  # fmt: skip
_LORA_WEIGHT = re.compile(rf"{re.escape(PREFIX)}.+\.lora_[AB]\.weight")


class LoraLinear(nn.Module):
    """A frozen linear layer (any module with in_features and out_features) with its adapter."""

    def __init__(self, base: nn.Module, lora: Lora, generator: torch.Generator) -> None:
        super().__init__()
        inputs, outputs = int(base.in_features), int(base.out_features)  # type: ignore[arg-type]
        self.base = base
        bound = math.sqrt(3 / inputs)  # kaiming_uniform with a = sqrt(5), as peft initialises A
        a = torch.empty(lora.rank, inputs).uniform_(
            -bound / math.sqrt(3), bound / math.sqrt(3), generator=generator
        )
        device = next(base.parameters()).device
        self.lora_A = nn.Parameter(a.to(device))
        self.lora_B = nn.Parameter(torch.zeros(outputs, lora.rank, device=device))
        self.scale = lora.alpha / lora.rank
        self.dropout = lora.dropout
        # one product of B and A costs less than three thin ones where the layer is not much wider than the rank
        self.merges = 3 * lora.rank * (inputs + outputs) > inputs * outputs

    def forward(self, x: Tensor) -> Tensor:
        merges = (
            self.merges and x.dtype == torch.float32
        )  # a 16-bit sum would round off the adapter's small part
        if merges and isinstance(self.base, nn.Linear) and not (self.dropout and self.training):
            weight = self.base.weight + (self.lora_B * self.scale @ self.lora_A).to(x.dtype)
            return F.linear(x, weight, self.base.bias)
        dropped = F.dropout(x, self.dropout, self.training) if self.dropout else x
        low_rank = F.linear(dropped, self.lora_A.to(x.dtype))
        frozen: Tensor = self.base(x)
        return frozen + F.linear(low_rank, (self.lora_B * self.scale).to(x.dtype))


def add_adapters(model: PreTrainedModel, lora: Lora, seed: int) -> None:
    """Add an adapter to every linear layer of the decoder, in place; the score head gets none."""
    generator = torch.Generator().manual_seed(seed)
    for parent in list(model.model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Linear):
                setattr(parent, name, LoraLinear(child, lora, generator))


class Adapter(NamedTuple):
    """The master weights A (r, inputs) and B (outputs, r) of one layer, and alpha / rank."""

    lora_A: Tensor
    lora_B: Tensor
    scale: float


def adapted_layers(model: PreTrainedModel) -> Iterator[tuple[str, Adapter]]:
    """The adapted layers with their names in the plain model, such as `model.layers.0.mlp.up_proj`."""
    for name, module in model.named_modules():
        if isinstance(module, LoraLinear):
            yield name, Adapter(module.lora_A, module.lora_B, module.scale)
        elif isinstance(module, FusedLinear) and module.rank:
            yield from ((name, Adapter(a, b, module.scale)) for name, a, b in module.members())


def uncovered(model: PreTrainedModel) -> list[str]:
    """The matrices of layers that have no adapter, such as those of experts, by their names in a layer."""
    adapted = (LoraLinear, FusedLinear)
    covered = {
        id(p) for module in model.modules() if isinstance(module, adapted) for p in module.parameters()
    }
    bare = (name for name, p in model.model.layers.named_parameters() if p.ndim > 1 and id(p) not in covered)
    return sorted({name.partition(".")[2] for name in bare})


def adapter_state(model: PreTrainedModel, with_head: bool) -> dict[str, Tensor]:
    """The adapter weights in fp32 on the CPU under peft's names; `with_head` adds the score head."""
    state = {}
    for name, layer in adapted_layers(model):
        state[f"{PREFIX}{name}.lora_A.weight"] = layer.lora_A.detach().float().cpu()
        state[f"{PREFIX}{name}.lora_B.weight"] = layer.lora_B.detach().float().cpu()
    if with_head:
        state[PREFIX + HEAD] = model.score.weight.detach().float().cpu()
    return {name: tensor.contiguous() for name, tensor in state.items()}


def save_adapter(state: dict[str, Tensor], lora: Lora, folder: Path) -> None:
    """Write an adapter folder that `peft.PeftModel.from_pretrained` reads."""
    folder.mkdir(parents=True, exist_ok=True)
    targets = {name.removesuffix(".lora_A.weight").rpartition(".")[2] for name in state if "lora_A" in name}
    has_head = PREFIX + HEAD in state
    config = {
        "peft_type": "LORA",
        "task_type": "SEQ_CLS" if has_head else None,  # with SEQ_CLS, peft requires a head
        "r": lora.rank,
        "lora_alpha": lora.alpha,
        "lora_dropout": lora.dropout,
        "target_modules": sorted(targets),
        "modules_to_save": ["score"] if has_head else None,
        "bias": "none",
        "inference_mode": True,
    }
    save_file(state, folder / WEIGHTS, metadata={"format": "pt"})
    write_atomically(folder / CONFIG, json.dumps(config, indent=2) + "\n")


def read_adapter(folder: Path) -> tuple[dict[str, Tensor], Lora]:
    """Read the weights and the LoRA settings of an adapter folder.

    Raises TiebreakError if there is none, if it is damaged, or if its update is not plain LoRA, alpha / rank times B A,
    with at most a score head beside it.
    """
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        state = load_file(folder / WEIGHTS)
        lora = Lora(rank=config["r"], alpha=config["lora_alpha"], dropout=config.get("lora_dropout") or 0.0)
    except FileNotFoundError as error:
        raise TiebreakError(
            f"{folder} is no adapter folder: {Path(error.filename).name} is missing"
        ) from None
    except (OSError, ValueError, LookupError, TypeError, AttributeError, SafetensorError) as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split()):.200}"
        raise TiebreakError(f"the adapter {folder} is damaged: {reason}; make or copy it again") from None
    if config.get("peft_type", "LORA") != "LORA":
        raise TiebreakError(
            f"{folder / CONFIG} is of the kind {config['peft_type']!r}: only LoRA is known here"
        )
    if other := [key for key in _UNSUPPORTED if config.get(key) not in (None, False, {}, [], "none")]:
        raise TiebreakError(
            f"{folder / CONFIG} sets {other[0]}: only plain LoRA, alpha / rank, is known here"
        )
    if foreign := sorted(
        name for name in state if not _LORA_WEIGHT.fullmatch(name) and name != PREFIX + HEAD
    ):
        raise TiebreakError(
            f"the adapter {folder} holds {foreign[0]}, which is neither LoRA's A or B nor a score head (modules_to_save "
            f"is {config.get('modules_to_save')}): such weights would be lost; train the adapter without them"
        )
    return state, lora


def load_adapter(model: PreTrainedModel, folder: Path) -> bool:
    """Copy an adapter's weights into a model that has adapters; returns true if they include a score head.

    Raises TiebreakError if the adapter's layers, rank or scale differ from the model's.
    """
    state, lora = read_adapter(folder)
    layers = dict(adapted_layers(model))
    names = {name.removeprefix(PREFIX).rpartition(".lora_")[0] for name in state if ".lora_" in name}
    if names != set(layers):
        raise TiebreakError(f"{folder} adapts other layers: {sorted(names ^ set(layers))[:4]} differ")
    with torch.no_grad():
        for name, layer in layers.items():
            a, b = (state.get(f"{PREFIX}{name}.lora_{x}.weight") for x in "AB")
            if a is None or b is None:
                raise TiebreakError(f"the adapter {folder} is damaged: of {name} it holds A or B alone")
            if a.shape != layer.lora_A.shape or lora.alpha / lora.rank != layer.scale:
                raise TiebreakError(
                    f"{folder} has rank {lora.rank} and alpha {lora.alpha}; the recipe asks for rank "
                    f"{layer.lora_A.shape[0]} and alpha {layer.scale * layer.lora_A.shape[0]:g}"
                )
            if b.shape != layer.lora_B.shape:
                raise TiebreakError(
                    f"{folder} is of another model: {name} has {layer.lora_B.shape[0]} outputs, its adapter {b.shape[0]}"
                )
            layer.lora_A.copy_(a)
            layer.lora_B.copy_(b)
        if has_head := PREFIX + HEAD in state:
            model.score.weight.copy_(state[PREFIX + HEAD])
    return has_head
