"""What a frozen decoder is held and computed in on the device at hand; `cards` has the rules."""

import importlib.util
import logging
from dataclasses import dataclass
from typing import cast

import torch

from tiebreak.cards import CPU, GIB, Card, held_in
from tiebreak.errors import TiebreakError
from tiebreak.model.stack import Kind

log = logging.getLogger(__name__)

TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Precision:
    """kind: how frozen weights are held. dtype: of activations, and of weights that are held dense."""

    kind: Kind
    dtype: torch.dtype
    reason: str


def card(device: str) -> Card:
    """The card that torch finds there."""
    if not device.startswith("cuda"):
        return CPU
    found = torch.cuda.get_device_properties(device)
    return Card(found.name, (found.major, found.minor), found.total_memory)


def choose(precision: str, card: Card, parameters: int) -> Precision:
    """The recipe's precision on a card, for a frozen decoder of so many parameters.

    Raises TiebreakError for a precision that the card lacks, and where `auto` needs a library that is missing.
    """
    held = held_in(precision, card, parameters)
    reason = _reason(card, parameters, held) if precision == "auto" else "as the recipe says"
    if held in TYPES:
        return Precision("dense", TYPES[held], reason)
    if precision == "auto" and held == "nf4" and importlib.util.find_spec("bitsandbytes") is None:
        raise TiebreakError(f"{reason}; NF4 needs bitsandbytes: pip install 'tiebreak[qlora]'")
    computed = "fp32" if card == CPU else "bf16" if card.has_bf16 else "fp16"
    return Precision(cast(Kind, held), TYPES[computed], reason)


def _reason(card: Card, parameters: int, held: str) -> str:
    if card == CPU:
        return "on a CPU"
    size, of_card = f"{2 * parameters / GIB:.0f}", f"{card.memory / GIB:.0f} GiB of {card.name}"
    return (
        f"{size} GiB of weights fit the {of_card}"
        if held in TYPES
        else (f"16-bit weights would take {size} of the {of_card}")
    )


def announce(name: str, precision: Precision) -> None:
    held = precision.kind if precision.kind != "dense" else str(precision.dtype).removeprefix("torch.")
    log.info("%s: weights in %s (%s)", name, held, precision.reason)
