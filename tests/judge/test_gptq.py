"""GPTQ through llmcompressor: the folder reloads in plain transformers, and only linear layers change."""

import importlib
import json
import os
import sys
from pathlib import Path

import pytest
import torch
from quantized_models import GROUP, documents, plain_logits, quantized, stored, weights
from safetensors.torch import load_file
from tiny_models import FAMILIES
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

from tiebreak.errors import TiebreakError
from tiebreak.judge import gptq
from tiebreak.model import classifier
from tiebreak.tokens.packing import pack

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("width", "group", "size"),
    [(3584, 128, 128), (14336, 128, 128), (64, 128, 64), (96, 128, 96), (160, 128, 80), (131, 128, 131)],
)
def test_group_size_divides_the_width(width, group, size):
    assert gptq.group_size(width, group) == size
    assert width % size == 0


def test_layers_of_a_kind_share_a_group_size():
    decoder = torch.nn.ModuleList(
        torch.nn.ModuleDict({"up_proj": torch.nn.Linear(width, 4)}) for width in (128, 192)
    )
    assert gptq.group_sizes(decoder, 128) == {"up_proj": 64}


@pytest.mark.parametrize("family", FAMILIES)
def test_folder_reloads_in_plain_transformers(family):
    """Close to the stored model, labels named, the tokenizer beside it, Gemma-2's soft-cap kept unasked."""
    rows = documents(family, 12, seed=1)
    before = plain_logits(stored(family), rows, attn_implementation="eager")
    after = plain_logits(quantized(family), rows)
    assert before.std() > 1
    assert 0 < (after - before).abs().mean() < 0.05 * before.std()
    config = AutoConfig.from_pretrained(quantized(family))
    assert config.id2label == {0: "a", 1: "b", 2: "tie"}
    text = "why is the sky blue?"
    ids = [
        AutoTokenizer.from_pretrained(folder)(text).input_ids
        for folder in (stored(family), quantized(family))
    ]
    assert ids[0] == ids[1]
    loaded = AutoModelForSequenceClassification.from_pretrained(quantized(family))
    assert loaded.config._attn_implementation == ("eager" if family == "gemma2" else "sdpa")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_only_the_decoders_linear_layers_change(dtype):
    """Gemma-2's norms too stay as they are to the last bit; llmcompressor's own entry point rounds 1 + w."""
    before, after = weights(stored("gemma2", dtype)), weights(quantized("gemma2", dtype=dtype))
    assert before.keys() == after.keys()
    changed = {name.split(".")[-2] for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}


def test_score_head_is_stored_in_fp32():

    head = load_file(quantized("gemma2", dtype=torch.bfloat16) / "model.safetensors")["score.weight"]
    assert head.dtype == torch.float32
    assert torch.equal(
        head, load_file(stored("gemma2", torch.bfloat16) / "model.safetensors")["score.weight"]
    )


def test_rounding_to_nearest_equals_its_formula():
    before, after = weights(stored("llama")), weights(quantized("llama", "rtn"))
    for name in ("model.layers.0.self_attn.q_proj.weight", "model.layers.2.mlp.down_proj.weight"):
        w_OGJ = before[name].unflatten(1, (-1, GROUP))
        scale_OG1 = w_OGJ.abs().amax(-1, keepdim=True) / 127.5
        expected = ((w_OGJ / scale_OG1).round().clamp(-128, 127) * scale_OG1).flatten(1)
        torch.testing.assert_close(after[name], expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("family", FAMILIES)
def test_gptq_changes_a_layers_output_less_than_rounding(family):
    """GPTQ's objective |X (W - Q)|^2, on rows it was not calibrated with."""
    kind = "layers.0.self_attn.k_proj"
    loaded = classifier.load(stored(family))
    layer, inputs = loaded.model.model.get_submodule(kind), []
    layer.register_forward_hook(lambda _, args, __: inputs.append(args[0][0]))
    loaded.logits(pack(documents(family, 40, seed=2)))

    def error(method: gptq.Method) -> torch.Tensor:
        weight = weights(quantized(family, method))[f"model.{kind}.weight"]
        return (inputs[0] @ (weight - layer.weight).T).norm()

    assert error("gptq") < 0.8 * error("rtn")


def test_same_rows_same_bytes(tmp_path):
    done = gptq.quantize(stored("llama"), tmp_path / "again", documents("llama", 20), GROUP)
    first, again = (folder / "model.safetensors" for folder in (quantized("llama"), tmp_path / "again"))
    assert first.read_bytes() == again.read_bytes()
    assert done.groups == {32: 21}
    assert done.rounded == ()
    assert done.bytes_after == again.stat().st_size < done.bytes_before


def test_stops_between_layers_and_leaves_nothing(tmp_path):
    seen = []

    def stop(done: int, total: int) -> None:
        seen.append((done, total))
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        gptq.quantize(stored("llama"), tmp_path / "model", documents("llama", 4), on_layer=stop)
    assert seen == [(1, 3), (2, 3)]
    assert list(tmp_path.iterdir()) == []


def test_is_silent_and_leaves_no_trace(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TOKENIZERS_PARALLELISM")
    environment = dict(os.environ)
    gptq.quantize(
        stored("qwen2"),
        tmp_path / "model",
        documents("qwen2", 4),
        on_layer=lambda done, total: print(f"{done} of {total}", file=sys.stderr),
    )
    assert capfd.readouterr() == ("", "1 of 3\n2 of 3\n3 of 3\n")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == [
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    assert "local_files_only" not in (tmp_path / "model" / "tokenizer_config.json").read_text()
    assert dict(os.environ) == environment


def test_missing_llmcompressor_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "llmcompressor.args", None)
    monkeypatch.delitem(sys.modules, "tiebreak.judge.gptq")
    with pytest.raises(TiebreakError, match=r"pip install 'tiebreak\[quantize\]'"):
        importlib.import_module("tiebreak.judge.gptq")


def test_config_says_what_is_packed():
    config = json.loads((Path(quantized("llama")) / "config.json").read_text())["quantization_config"]
    assert config["ignore"] == ["score"]
    assert config["format"] == "pack-quantized"
    (scheme,) = config["config_groups"].values()
    assert (scheme["weights"]["num_bits"], scheme["weights"]["group_size"]) == (8, GROUP)
