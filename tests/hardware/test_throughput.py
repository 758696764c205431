import json
from pathlib import Path

import pytest

from tiebreak.errors import TiebreakError
from tiebreak.hardware.gpu_specs import GIB, Card, find_card
from tiebreak.hardware.throughput import rate, table

RESULT = Path(__file__).parents[2] / "benchmarks" / "results" / "gpu-h100-202611.json"


def measured(work: str, arm: str) -> float:
    """Operations per second in the result file that the table names as its source."""
    arms = json.loads(RESULT.read_text())["arms"]
    (found,) = (a["tflops"] for a in arms if (a["work"], a["arm"]) == (work, arm))
    return round(found) * 1e12


def test_the_rate_of_a_measured_card_is_the_measurement() -> None:
    assert rate(find_card("H100"), "score", "bf16", 9e9) == pytest.approx(measured("gemma-score", "bf16"))
    assert rate(find_card("H100"), "train", "fp8", 7e9) == pytest.approx(measured("gemma-step", "fp8"))


def test_the_nearest_size_counts() -> None:
    assert rate(find_card("H100"), "train", "fp8", 70e9) == pytest.approx(measured("llama-step", "fp8"))


def test_another_card_reaches_the_same_share_of_its_peak() -> None:
    peaks = {name: entry["tflops"] for name, entry in table()["peaks"].items()}
    expected = measured("gemma-step", "bf16") / peaks["H100"] * peaks["A100"]
    assert rate(find_card("A100-80G"), "train", "bf16", 9e9) == pytest.approx(expected)
    assert rate(find_card("A100-80G"), "train", "fp16", 9e9) == pytest.approx(expected)


def test_nf4_scores_at_the_rate_of_16_bits_for_want_of_its_own() -> None:
    assert rate(find_card("H100"), "score", "nf4", 9e9) == rate(find_card("H100"), "score", "bf16", 9e9)
    assert rate(find_card("H100"), "train", "nf4", 9e9) == pytest.approx(
        616e12
    )  # of llama-step/nf4 on the same page


def test_cards_as_cuda_names_them_are_found() -> None:
    as_cuda_says = Card("NVIDIA H100 80GB HBM3", (9, 0), 80 * GIB)
    assert rate(as_cuda_says, "score", "bf16", 9e9) == pytest.approx(measured("gemma-score", "bf16"))
    l40s, l4 = (rate(Card(f"NVIDIA {name}", (8, 9), GIB), "score", "fp8", 9e9) for name in ("L40S", "L4"))
    assert l40s > 2 * l4


@pytest.mark.parametrize("name", ["NVIDIA RTX A1000", "NVIDIA L40", "NVIDIA T400"])
def test_a_card_is_not_known_by_a_part_of_its_name(name: str) -> None:
    with pytest.raises(TiebreakError, match="no speed is known"):
        rate(Card(name, (8, 6), GIB), "score", "bf16", 9e9)


def test_cards_of_the_table_and_of_cuda_have_a_speed() -> None:
    for name in (
        "V100-32G",
        "A100-80G",
        "RTX4090",
        "NVIDIA GeForce RTX 3090",
        "Tesla V100-SXM2-32GB",
        "NVIDIA A100-SXM4-80GB",
    ):
        assert rate(Card(name, (8, 0), GIB), "score", "bf16", 9e9) > 0


def test_a_card_of_unknown_speed_is_an_error() -> None:
    with pytest.raises(TiebreakError, match="no speed is known of Voodoo 3; known are: H100"):
        rate(Card("Voodoo 3", (1, 0), GIB), "score", "bf16", 9e9)


def test_every_entry_has_a_source() -> None:
    assert all(entry["source"] for entry in (*table()["peaks"].values(), *table()["rates"]))
