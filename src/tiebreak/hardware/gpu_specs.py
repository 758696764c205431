"""GPU specifications: memory, supported precisions, and a table for planning without the GPU."""

from dataclasses import dataclass

from tiebreak.errors import TiebreakError, nearest

GIB = 2**30
ROOM_16 = 0.5
"""The largest share of a card's memory for 16-bit weights under `auto`; the rest is for activations."""
ROOM_8 = 0.75
"""The largest share for FP8 weights; NF4 beyond."""


@dataclass(frozen=True)
class Card:
    """A device: its name, CUDA capability, (0, 0) for a CPU, and memory in bytes."""

    name: str
    capability: tuple[int, int]
    memory: int

    @property
    def has_bf16(self) -> bool:
        return self.capability >= (8, 0)

    @property
    def has_fp8(self) -> bool:
        """True for matrix units that multiply FP8 with row-wise scales: Hopper and later."""
        return self.capability >= (9, 0)


CPU = Card("CPU", (0, 0), 0)
_TABLE = {
    "P100": ((6, 0), 15.9),
    "T4": ((7, 5), 14.6),
    "V100-16G": ((7, 0), 15.8),
    "V100-32G": ((7, 0), 31.7),
    "RTX3090": ((8, 6), 23.6),
    "A10": ((8, 6), 22.0),
    "A100-40G": ((8, 0), 39.4),
    "A100-80G": ((8, 0), 79.2),
    "RTX4090": ((8, 9), 23.5),
    "L4": ((8, 9), 22.0),
    "L40S": ((8, 9), 44.4),
    "H100": ((9, 0), 79.1),
    "H200": ((9, 0), 139.8),
    "B200": ((10, 0), 178.4),
}
"""Capability, and GiB as CUDA reports them, a little less than the nominal size."""


def find_card(name: str) -> Card:
    """The card of that name. Raises TiebreakError for one that is not in the table."""
    for known, (capability, gib) in _TABLE.items():
        if known.lower() == name.lower():
            return Card(known, capability, int(gib * GIB))
    raise TiebreakError(f"no card {name!r} in the table; {nearest(name, _TABLE)}")


def rank_error(stored_in: str, card: Card, rank: int) -> str | None:
    """An error message for an adapter's rank that a card's matrix products do not support; None if they do."""
    if stored_in == "fp8" and card != CPU and rank % 16:
        return f"lora.rank is {rank}, and FP8 products take multiples of 16; choose one, or precision nf4"
    return None


def weight_format(precision: str, card: Card, parameters: int) -> str:
    """The format of the weights of a frozen decoder of so many parameters: fp32, bf16, fp16, fp8 or nf4.

    `auto` keeps weights in 16 bits (fp32 on a CPU) where they take no more than half of the card, and else in
    FP8 where the card computes it and they take no more than three quarters, and else in NF4.
    Raises TiebreakError for a precision that the card lacks.
    """
    if precision == "auto":
        return _auto(card, parameters)
    if precision == "fp8" and card != CPU and not card.has_fp8:
        raise TiebreakError(f"{card.name} has no FP8; choose precision nf4 or auto")
    if precision == "bf16" and card != CPU and not card.has_bf16:
        raise TiebreakError(f"{card.name} has no bf16; choose precision fp16 or auto")
    return precision


def _auto(card: Card, parameters: int) -> str:
    if card == CPU:
        return "fp32"
    if 2 * parameters <= ROOM_16 * card.memory:
        return "bf16" if card.has_bf16 else "fp16"
    return "fp8" if card.has_fp8 and parameters <= ROOM_8 * card.memory else "nf4"
