import logging

import pytest
import torch

from tiebreak.errors import TiebreakError
from tiebreak.model import precision
from tiebreak.model.precision import CPU, GIB, Card, choose

V100 = Card("V100", (7, 0), 32 * GIB)
A100 = Card("A100", (8, 0), 80 * GIB)
H100 = Card("H100", (9, 0), 80 * GIB)
H200 = Card("H200", (9, 0), 141 * GIB)
GEMMA_9B, LLAMA_70B = 9_240_000_000, 70_600_000_000


@pytest.mark.parametrize(
    ("card", "parameters", "kind", "dtype"),
    [
        (CPU, LLAMA_70B, "dense", torch.float32),
        (V100, 1_000_000_000, "dense", torch.float16),
        (V100, GEMMA_9B, "nf4", torch.float16),
        (A100, GEMMA_9B, "dense", torch.bfloat16),
        (A100, LLAMA_70B, "nf4", torch.bfloat16),
        (H100, GEMMA_9B, "dense", torch.bfloat16),
        (H100, LLAMA_70B, "nf4", torch.bfloat16),
        (H200, LLAMA_70B, "fp8", torch.bfloat16),
    ],
)
def test_auto_looks_at_the_card_and_the_size(
    card: Card, parameters: int, kind: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: True)
    chosen = choose("auto", card, parameters)
    assert (chosen.kind, chosen.dtype) == (kind, dtype)


def test_nf4_by_auto_needs_its_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(TiebreakError, match="pip install"):
        choose("auto", A100, LLAMA_70B)


def test_what_the_recipe_says_holds() -> None:
    assert choose("fp16", H100, GEMMA_9B).dtype == torch.float16
    assert choose("fp32", CPU, 0).dtype == torch.float32
    assert choose("nf4", V100, GEMMA_9B).dtype == torch.float16
    assert choose("fp8", CPU, 0).dtype == torch.float32


@pytest.mark.parametrize(("wanted", "card"), [("fp8", A100), ("bf16", V100), ("fp8", V100)])
def test_a_precision_that_the_card_lacks_is_refused(wanted: str, card: Card) -> None:
    with pytest.raises(TiebreakError, match=f"{card.name} has no"):
        choose(wanted, card, GEMMA_9B)


def test_the_choice_is_said_with_its_reason(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        precision.announce("llama", choose("auto", H200, LLAMA_70B))
    assert "llama: weights in fp8 (16-bit weights would take 132 of the 141 GiB of H200)" in caplog.text
