"""Tests of GPU specifications, and of the formats that `auto` chooses."""

import pytest

from tiebreak.errors import TiebreakError
from tiebreak.hardware.gpu_specs import CPU, find_card, weight_format

BILLION = 10**9


@pytest.mark.parametrize(
    ("card", "billions", "held"),
    [
        ("V100-32G", 7, "fp16"),
        ("V100-32G", 9, "nf4"),
        ("A100-80G", 9, "bf16"),
        ("A100-80G", 32, "nf4"),
        ("H100", 9, "bf16"),
        ("H100", 32, "fp8"),
        ("H100", 70, "nf4"),
        ("h200", 70, "fp8"),
    ],
)
def test_auto(card: str, billions: int, held: str) -> None:
    assert weight_format("auto", find_card(card), billions * BILLION) == held


def test_on_a_cpu() -> None:
    assert weight_format("auto", CPU, 70 * BILLION) == "fp32"
    assert weight_format("fp8", CPU, 1) == "fp8"


@pytest.mark.parametrize(
    ("precision", "card", "message"),
    [
        ("bf16", "V100-32G", "V100-32G has no bf16; choose precision fp16 or auto"),
        ("bf16", "T4", "no bf16"),
        ("fp8", "V100-16G", "V100-16G has no FP8; choose precision nf4 or auto"),
        ("fp8", "A100-80G", "no FP8"),
    ],
)
def test_an_unsupported_precision_is_an_error(precision: str, card: str, message: str) -> None:
    with pytest.raises(TiebreakError, match=message):
        weight_format(precision, find_card(card), BILLION)


def test_an_explicit_precision_is_used() -> None:
    for precision in ("fp32", "fp16", "nf4"):
        assert weight_format(precision, find_card("V100-32G"), 700 * BILLION) == precision


def test_an_unknown_card_is_named() -> None:
    with pytest.raises(TiebreakError, match=r"no card 'H10'.*did you mean 'H100'"):
        find_card("H10")
