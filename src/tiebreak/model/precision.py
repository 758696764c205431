"""What a frozen decoder is held and computed in, chosen from the card and the model's size where not said."""

import importlib.util
import logging
from dataclasses import dataclass

import torch

from tiebreak.errors import TiebreakError
from tiebreak.model.stack import Kind

log = logging.getLogger(__name__)

TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
GIB = 2**30
ROOM = 0.5
"""The share of a card's memory that 16-bit weights may take: the rest is for activations and the optimizer."""


@dataclass(frozen=True)
class Card:
    """What matters of a device. capability is CUDA's, (0, 0) for a CPU; memory in bytes."""

    name: str
    capability: tuple[int, int]
    memory: int

    @property
    def has_bf16(self) -> bool:
        return self.capability >= (8, 0)

    @property
    def has_fp8(self) -> bool:
        """Matrix units for FP8 with a scale a row: Hopper and later."""
        return self.capability >= (9, 0)


CPU = Card("CPU", (0, 0), 0)


@dataclass(frozen=True)
class Precision:
    """kind: how frozen weights are held. dtype: of activations, and of weights that are held dense."""

    kind: Kind
    dtype: torch.dtype
    reason: str


def card(device: str) -> Card:
    if not device.startswith("cuda"):
        return CPU
    found = torch.cuda.get_device_properties(device)
    return Card(found.name, (found.major, found.minor), found.total_memory)


def choose(precision: str, card: Card, parameters: int) -> Precision:
    """The recipe's precision on a card, for a frozen decoder of so many parameters.

    `auto` keeps weights in 16 bits (fp32 on a CPU) where they take no more than half of the card, and else in
    FP8 where the card computes it and they take no more than three quarters, and else in NF4.
    Raises TiebreakError for a precision that the card lacks.
    """
    half = torch.bfloat16 if card.has_bf16 else torch.float16
    if precision == "auto":
        return _auto(card, parameters, half)
    if precision == "fp8" and card is not CPU and not card.has_fp8:
        raise TiebreakError(f"{card.name} has no FP8; choose precision nf4 or auto")
    if precision == "bf16" and card is not CPU and not card.has_bf16:
        raise TiebreakError(f"{card.name} has no bf16; choose precision fp16 or auto")
    if precision in ("fp8", "nf4"):
        return Precision(precision, torch.float32 if card is CPU else half, "as the recipe says")  # type: ignore[arg-type]
    return Precision("dense", TYPES[precision], "as the recipe says")


def _auto(card: Card, parameters: int, half: torch.dtype) -> Precision:
    if card is CPU:
        return Precision("dense", torch.float32, "on a CPU")
    of_card = f"{card.memory / GIB:.0f} GiB of {card.name}"
    if 2 * parameters <= ROOM * card.memory:
        return Precision("dense", half, f"{2 * parameters / GIB:.0f} GiB of weights fit the {of_card}")
    reason = f"16-bit weights would take {2 * parameters / GIB:.0f} of the {of_card}"
    if card.has_fp8 and parameters <= 0.75 * card.memory:
        return Precision("fp8", half, reason)
    if importlib.util.find_spec("bitsandbytes") is None:
        raise TiebreakError(f"{reason}; NF4 needs bitsandbytes: pip install 'tiebreak[qlora]'")
    return Precision("nf4", half, reason)


def announce(name: str, precision: Precision) -> None:
    held = precision.kind if precision.kind != "dense" else str(precision.dtype).removeprefix("torch.")
    log.info("%s: weights in %s (%s)", name, held, precision.reason)
