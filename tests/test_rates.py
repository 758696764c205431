import json
from pathlib import Path

import pytest

from tiebreak.cards import GIB, Card, named
from tiebreak.errors import TiebreakError
from tiebreak.rates import rate, table

RESULT = Path(__file__).parents[1] / "benchmarks" / "results" / "gpu-h100-202611.json"


def measured(work: str, arm: str) -> float:
    """Operations a second, in the result file that the table names as its source."""
    arms = json.loads(RESULT.read_text())["arms"]
    (found,) = (a["tflops"] for a in arms if (a["work"], a["arm"]) == (work, arm))
    return round(found) * 1e12


def test_what_was_measured_on_a_card_is_its_rate() -> None:
    assert rate(named("H100"), "score", "bf16", 9e9) == pytest.approx(measured("gemma-score", "bf16"))
    assert rate(named("H100"), "train", "fp8", 7e9) == pytest.approx(measured("gemma-step", "fp8"))


def test_the_nearest_size_counts() -> None:
    assert rate(named("H100"), "train", "fp8", 70e9) == pytest.approx(measured("llama-step", "fp8"))


def test_another_card_reaches_the_same_share_of_its_peak() -> None:
    peaks = {name: entry["tflops"] for name, entry in table()["peaks"].items()}
    expected = measured("gemma-step", "bf16") / peaks["H100"] * peaks["A100"]
    assert rate(named("A100-80G"), "train", "bf16", 9e9) == pytest.approx(expected)
    assert rate(named("A100-80G"), "train", "nf4", 9e9) == pytest.approx(expected)


def test_cards_as_cuda_names_them_are_found() -> None:
    as_cuda_says = Card("NVIDIA H100 80GB HBM3", (9, 0), 80 * GIB)
    assert rate(as_cuda_says, "score", "bf16", 9e9) == pytest.approx(measured("gemma-score", "bf16"))
    l40s, l4 = (rate(Card(f"NVIDIA {name}", (8, 9), GIB), "score", "fp8", 9e9) for name in ("L40S", "L4"))
    assert l40s > 2 * l4


def test_a_card_of_unknown_speed_is_an_error() -> None:
    with pytest.raises(TiebreakError, match="no speed is known of Voodoo 3; known are: H100"):
        rate(Card("Voodoo 3", (1, 0), GIB), "score", "bf16", 9e9)


def test_every_entry_has_a_source() -> None:
    assert all(entry["source"] for entry in (*table()["peaks"].values(), *table()["rates"]))
