import pytest
import torch
from quantized import documents, quantized, stored

from tiebreak.data.packing import pack
from tiebreak.errors import TiebreakError
from tiebreak.model.classifier import load, stored_head


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
