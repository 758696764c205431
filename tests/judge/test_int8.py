"""The linear layer that keeps its codes packed, against plain transformers, which unpacks them."""

import json
import shutil

import pytest
import torch
import torch.nn.functional as F
from quantized_models import documents, plain_logits, quantized, stored, weights
from tiny_models import FAMILIES

from tiebreak.errors import TiebreakError
from tiebreak.judge import int8
from tiebreak.model.fast.fused_linears import fused_linears
from tiebreak.tokens.packing import pack

pytestmark = pytest.mark.slow


def layers(model: torch.nn.Module) -> dict[str, int8.Int8Linear]:
    return {name: m for name, m in model.named_modules() if isinstance(m, int8.Int8Linear)}


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_equal_plain_transformers(family):
    rows = documents(family, 12, seed=1)
    expected = plain_logits(quantized(family), rows)
    with torch.no_grad():
        got = int8.load_classifier(quantized(family)).logits(pack(rows))
    assert expected.std() > 1
    torch.testing.assert_close(got, expected, atol=5e-5, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_weights_equal_plain_transformers_bit_for_bit(dtype):
    plain = weights(quantized("gemma2", dtype=dtype))
    found = layers(int8.load_int8(quantized("gemma2", dtype=dtype), dtype=dtype))
    assert len(found) == 21
    for name, layer in found.items():
        assert torch.equal(int8.dequantized(layer.codes_OI, layer.scales_OG), plain[f"{name}.weight"])


def test_bf16_follows_fp32():
    rows, folder = documents("gemma2", 12, seed=1), quantized("gemma2", dtype=torch.bfloat16)
    with torch.no_grad():
        exact = int8.load_classifier(folder, "fp32").logits(pack(rows))
        rough = int8.load_classifier(folder, "bf16").logits(pack(rows))
    assert 0 < (rough - exact).abs().mean() < 0.05 * exact.std()


def test_fp8_follows_the_codes():
    rows, folder = documents("gemma2", 12, seed=1), quantized("gemma2", dtype=torch.bfloat16)
    with torch.no_grad():
        exact = int8.load_classifier(folder, "fp32").logits(pack(rows))
        rounded = int8.load_classifier(folder, "fp8")
        rough = rounded.logits(pack(rows))
    assert not layers(rounded.model)
    assert {stack.codes.element_size() for stack in fused_linears(rounded.model)} == {1}
    assert 0 < (rough - exact).abs().mean() < 0.1 * exact.std()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA card")
def test_a_card_follows_the_cpu():
    rows, folder = documents("gemma2", 12, seed=1), quantized("gemma2", dtype=torch.bfloat16)
    with torch.no_grad():
        exact = int8.load_classifier(folder, "fp32").logits(pack(rows))
        rough = int8.load_classifier(folder, "auto", "cuda").logits(pack(rows).to("cuda")).cpu()
    assert (rough - exact).abs().mean() < 0.05 * exact.std()


def test_score_head_stays_fp32_in_bf16():
    expected = int8.load_int8(quantized("gemma2", dtype=torch.bfloat16), dtype=torch.float32).score.weight
    head = int8.load_int8(quantized("gemma2", dtype=torch.bfloat16), dtype=torch.bfloat16).score.weight
    assert head.dtype == torch.float32
    assert torch.equal(head, expected)
    assert not torch.equal(head, head.bfloat16().float()), "bf16 holds this head: nothing is shown"


def test_memory_is_that_of_the_file():
    folder = quantized("llama")
    loaded = int8.load_classifier(folder)
    loaded.logits(pack(documents("llama", 3)))
    held = sum(p.untyped_storage().nbytes() for p in loaded.model.parameters())
    in_file = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    assert held < in_file
    assert all(layer.codes_OI.dtype == torch.int8 for layer in layers(loaded.model).values())


@pytest.mark.parametrize("inputs", [64, 62])
def test_layer_equals_a_dense_one_in_blocks(inputs, monkeypatch):
    monkeypatch.setitem(int8.BLOCK_WEIGHTS, "cpu", 3 * inputs)  # 10 rows: three blocks and a rest
    codes_OI = torch.randint(-128, 128, (10, inputs), dtype=torch.int8)
    scales_OG, x_BTI = torch.rand(10, 2), torch.randn(2, 5, inputs)
    dense_OI = codes_OI * scales_OG.repeat_interleave(inputs // 2, dim=1)
    got = int8.int8_linear(x_BTI, codes_OI, scales_OG)
    torch.testing.assert_close(got, F.linear(x_BTI, dense_OI), rtol=1e-5, atol=1e-3)


def test_words_become_codes():
    """Four codes to a word, 128 added, the last word padded."""
    layer = int8.Int8Linear(torch.nn.Linear(6, 1), [1, 2], [1, 1])
    stored_bytes = torch.tensor([[0, 1, 127, 128, 129, 255, 0, 0]], dtype=torch.uint8)
    layer.weight_packed = int8._frozen(stored_bytes.view(torch.int32))
    layer.unpack()
    assert layer.codes_OI.tolist() == [[-128, -127, -1, 0, 1, 127]]


def test_refuses_a_plain_folder():
    with pytest.raises(TiebreakError, match="is not quantised"):
        int8.load_int8(stored("llama"))


@pytest.mark.parametrize(("key", "value"), [("num_bits", 4), ("symmetric", False), ("type", "float")])
def test_refuses_other_schemes(tmp_path, key, value):
    folder = shutil.copytree(quantized("llama"), tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"]["config_groups"]["group_0"]["weights"][key] = value
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(TiebreakError, match="valid here: compressed-tensors pack-quantized, 8 bits"):
        int8.load_int8(folder)
