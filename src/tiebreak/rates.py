"""How fast a card goes through the matrices of a decoder: rates measured on some cards, carried over to others.

rates.json holds them with their sources, in TFLOP/s: a trained token counts 4 N operations (no gradients of
frozen weights), a scored one 2 N, N parameters in the layers' matrices. `benchmarks/gpu.py` measures more.
"""

import json
import math
import re
from functools import cache
from importlib.resources import files
from typing import Any, Literal

from tiebreak.cards import Card
from tiebreak.errors import TiebreakError

Work = Literal["train", "score"]
_LIKE = {"fp16": "bf16", "nf4": "bf16", "fp32": "bf16"}
"""Where nothing is measured. NF4 becomes 16 bits before each product, which costs little beside thousands of tokens."""


@cache
def table() -> dict[str, Any]:
    """rates.json, whole."""
    found: dict[str, Any] = json.loads(files("tiebreak").joinpath("rates.json").read_text(encoding="utf-8"))
    return found


def rate(card: Card, work: Work, held: str, parameters: float) -> float:
    """Operations a second of a card at a work, for so many parameters held in fp32, bf16, fp16, fp8 or nf4.

    From the entry of the nearest size, of this card if there is one; of another card its share of the peak
    is taken. Raises TiebreakError for a card of unknown speed.
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
    """The card's entry: CUDA says `NVIDIA H100 80GB HBM3`, the table of cards H100 or A100-80G."""
    known: dict[str, Any] = table()["peaks"]
    words = re.split(r"[ -]", card.name.upper().replace("RTX ", "RTX"))
    found = [name for name in known if name.upper() in words]
    if not found:
        raise TiebreakError(f"no speed is known of {card.name}; known are: {', '.join(known)}")
    return max(found, key=len)
