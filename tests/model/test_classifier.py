import pytest
import torch
from quantized import quantized, stored

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
