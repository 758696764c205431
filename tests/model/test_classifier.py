from pathlib import Path

import pytest
import torch
from quantized_models import documents, quantized, stored
from tiny_models import base
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from tiebreak.errors import TiebreakError
from tiebreak.hardware.gpu_specs import find_card
from tiebreak.model import classifier
from tiebreak.model.classifier import load, load_adapted, stored_head, stored_precision
from tiebreak.recipe.models import Lora
from tiebreak.tokens.packing import pack


def test_score_head_keeps_fp32_where_the_model_loads_in_16_bits():
    head = load(stored("gemma2", torch.bfloat16), "bf16").model.score.weight
    assert head.dtype == torch.float32
    assert torch.equal(head, stored_head(stored("gemma2", torch.bfloat16)))
    assert not torch.equal(head, head.bfloat16().float()), "bf16 holds this head: nothing is shown"


def test_a_quantised_folder_is_no_base():
    with pytest.raises(TiebreakError, match="is quantised"):
        load(quantized("llama"))


def test_a_plain_folder_scores_in_fp8():
    rows, folder = documents("gemma2", 12, seed=1), stored("gemma2", torch.float32)
    with torch.no_grad():
        exact, rough = (load(folder, precision).logits(pack(rows)) for precision in ("fp32", "fp8"))
    assert 0 < (rough - exact).abs().mean() < 0.1 * exact.std()


@pytest.fixture(
    params=[("a reward",), ("entailment", "neutral", "contradiction")], ids=["reward", "entailment"]
)
def of_another_task(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A folder with a trained score head of another task, which may have as many classes."""
    labels = dict(enumerate(request.param))
    model = AutoModelForSequenceClassification.from_pretrained(
        base("qwen3"), num_labels=len(labels), id2label=labels
    )
    model.save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(base("qwen3")).save_pretrained(tmp_path)
    return tmp_path


@pytest.mark.parametrize("precision", ["fp32", "fp8"])
def test_a_head_of_another_task_is_not_taken(of_another_task: Path, precision: str) -> None:
    for loaded in (
        load(of_another_task, precision),
        load_adapted(of_another_task, Lora(rank=4), None, precision, "cpu"),
    ):
        assert not loaded.head_trained
        assert loaded.model.score.weight.shape == (3, 32)
        assert not torch.equal(loaded.model.score.weight, stored_head(of_another_task))
        assert loaded.logits(pack(documents("qwen3", 2))).shape == (2, 3)


def test_processes_with_different_precisions_are_refused(monkeypatch) -> None:
    seen = []
    monkeypatch.setattr("tiebreak.distributed.all_equal", lambda value: not seen.append(value))
    for precision in ("fp32", "bf16", "fp8", "fp32"):
        load_adapted(base("llama"), Lora(rank=16), None, precision, "cpu")
    fp32, bf16, fp8 = dict.fromkeys(seen)
    assert seen == [fp32, fp32, bf16, bf16, fp8, fp32, fp32]
    monkeypatch.setattr("tiebreak.distributed.all_equal", lambda value: False)
    with pytest.raises(TiebreakError, match=r"different kinds.*\(here in dense, float32\); ask for one kind"):
        load(base("llama"))


def test_fp8_on_a_card_needs_ranks_that_its_products_support(monkeypatch) -> None:
    monkeypatch.setattr(classifier, "device_card", lambda _: find_card("H100"))
    with pytest.raises(
        TiebreakError, match=r"in FP8: lora\.rank is 8, and FP8 products take multiples of 16"
    ):
        load_adapted(base("llama"), Lora(rank=8), None, "fp8", "cpu")


def test_the_precision_of_stored_weights(monkeypatch) -> None:
    assert stored_precision(stored("llama", torch.bfloat16), "cpu") == "bf16"
    assert stored_precision(stored("llama", torch.float32), "cpu") == "fp32"
    monkeypatch.setattr(classifier, "device_card", lambda _: find_card("V100-32G"))
    assert stored_precision(stored("llama", torch.bfloat16), "cuda") == "auto"
