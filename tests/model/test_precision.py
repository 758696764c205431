import logging

import pytest
import torch

from tiebreak.errors import TiebreakError
from tiebreak.hardware.gpu_specs import CPU, Card, find_card
from tiebreak.model import precision
from tiebreak.model.precision import choose

V100, A100, H100, H200 = (find_card(name) for name in ("V100-32G", "A100-80G", "H100", "H200"))
GEMMA_9B, LLAMA_70B = 9_240_000_000, 70_600_000_000


@pytest.mark.parametrize(
    ("card", "parameters", "kind", "dtype"),
    [
        (CPU, LLAMA_70B, "dense", torch.float32),
        (V100, GEMMA_9B, "nf4", torch.float16),
        (A100, GEMMA_9B, "dense", torch.bfloat16),
        (A100, LLAMA_70B, "nf4", torch.bfloat16),
        (H200, LLAMA_70B, "fp8", torch.bfloat16),
    ],
)
def test_auto_becomes_a_kind_and_a_type(
    card: Card, parameters: int, kind: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: True)
    chosen = choose("auto", card, parameters)
    assert (chosen.kind, chosen.dtype) == (kind, dtype)


def test_nf4_by_auto_needs_its_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(TiebreakError, match="pip install"):
        choose("auto", A100, LLAMA_70B)


def test_an_explicit_precision_is_used() -> None:
    assert choose("fp16", H100, GEMMA_9B).dtype == torch.float16
    assert choose("fp32", CPU, 0).dtype == torch.float32
    assert choose("nf4", V100, GEMMA_9B).dtype == torch.float16
    assert choose("fp8", CPU, 0).dtype == torch.float32


def test_the_choice_is_logged_with_its_reason(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        precision.announce("llama", choose("auto", H200, LLAMA_70B))
    assert "llama: weights in fp8 (16-bit weights would take 132 of the 140 GiB of H200)" in caplog.text
