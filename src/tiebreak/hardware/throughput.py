"""Throughput of a decoder's matrix products on a card: rates measured on some cards, extrapolated to others.

throughput.json holds them with their sources, in TFLOP/s: a trained token counts 4 N operations (no gradients of
frozen weights), a scored one 2 N, N parameters in the layers' matrices. `benchmarks/gpu.py` measures more.
"""

import json
import math
import re
from functools import cache
from importlib.resources import files
from typing import Any, Literal

from tiebreak.errors import TiebreakError
from tiebreak.hardware.gpu_specs import Card

Work = Literal["train", "score"]
_LIKE = {"fp16": "bf16", "nf4": "bf16", "fp32": "bf16"}
"""The formats whose rate is used where none is measured. NF4 is decoded to 16 bits before each product, a small
cost for thousands of tokens."""


@cache
def table() -> dict[str, Any]:
    """The contents of throughput.json."""
    found: dict[str, Any] = json.loads(
        files("tiebreak.hardware").joinpath("throughput.json").read_text(encoding="utf-8")
    )
    return found


def rate(card: Card, work: Work, held: str, parameters: float) -> float:
    """The operations per second of a card, for so many parameters stored in fp32, bf16, fp16, int8, fp8 or nf4, or in 16 bits
    "without kernels", as before Ampere.

    From the entry of the nearest size, of this card if there is one; otherwise another card's share of its peak
    is used. Raises TiebreakError for a card of unknown speed.
    """
    entries = [e for e in table()["rates"] if (e["work"], e["held"]) == (work, held)]
    if not entries:
        return rate(card, work, _LIKE[held], parameters)
    name = _peak_name(card)
    nearest = min(
        entries, key=lambda e: (e["card"] != name, abs(math.log(e["parameters"]) - math.log(parameters)))
    )
    share = nearest["tflops"] / table()["peaks"][nearest["card"]]["tflops"]
    return float(1e12 * share * table()["peaks"][name]["tflops"])


def _peak_name(card: Card) -> str:
    """The card's entry in `peaks`: CUDA's name is `NVIDIA H100 80GB HBM3`, that of the table H100 or A100-80G."""
    known: dict[str, Any] = table()["peaks"]
    words = re.split(r"[ -]", card.name.upper().replace("RTX ", "RTX"))
    found = [name for name in known if name.upper() in words]
    if not found:
        raise TiebreakError(f"no speed is known of {card.name}; known are: {', '.join(known)}")
    return max(found, key=len)
