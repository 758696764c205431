"""Precision of a frozen decoder on the current device, by the rules of hardware.gpu_specs."""

import importlib.util
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import cast

import torch
from torch import nn

from tiebreak.errors import TiebreakError
from tiebreak.hardware.gpu_specs import CPU, GIB, Card, weight_format
from tiebreak.model.fast.fused_linears import Kind

log = logging.getLogger(__name__)

TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Precision:
    """The precision of a model. kind: the format of frozen weights. dtype: of activations, and of dense weights."""

    kind: Kind
    dtype: torch.dtype
    reason: str


def device_card(device: str) -> Card:
    """The card of a torch device."""
    if not device.startswith("cuda"):
        return CPU
    found = torch.cuda.get_device_properties(device)
    return Card(found.name, (found.major, found.minor), found.total_memory)


def choose(precision: str, card: Card, parameters: int) -> Precision:
    """Choose the precision on a card for a frozen decoder of so many parameters, by the recipe's setting.

    Raises TiebreakError for a precision that the card lacks, and where `auto` needs a library that is missing.
    """
    stored_in = weight_format(precision, card, parameters)
    reason = _reason(card, parameters, stored_in) if precision == "auto" else "as the recipe says"
    if stored_in in TYPES:
        return Precision("dense", TYPES[stored_in], reason)
    if precision == "auto" and stored_in == "nf4" and importlib.util.find_spec("bitsandbytes") is None:
        raise TiebreakError(f"{reason}; NF4 needs bitsandbytes: pip install 'tiebreak[qlora]'")
    computed = "fp32" if card == CPU else "bf16" if card.has_bf16 else "fp16"
    return Precision(cast(Kind, stored_in), TYPES[computed], reason)


def _reason(card: Card, parameters: int, stored_in: str) -> str:
    if card == CPU:
        return "on a CPU"
    size, of_card = f"{2 * parameters / GIB:.0f}", f"{card.memory / GIB:.0f} GiB of {card.name}"
    return (
        f"{size} GiB of weights fit the {of_card}"
        if stored_in in TYPES
        else (f"16-bit weights would take {size} of the {of_card}")
    )


@contextmanager
def widened(model: nn.Module) -> Iterator[None]:
    """Compute a model of fp16 in fp32 within the block: its fp16 weights are widened in place; 8-bit codes stay as they are."""
    narrow = [held for held in chain(model.parameters(), model.buffers()) if held.dtype == torch.float16]
    for held in narrow:
        held.data = held.data.float()
    try:
        yield
    finally:
        for held in narrow:
            held.data = held.data.half()  # exactly what it was


def announce(name: str, precision: Precision) -> None:
    stored_in = precision.kind if precision.kind != "dense" else str(precision.dtype).removeprefix("torch.")
    log.info("%s: weights in %s (%s)", name, stored_in, precision.reason)
