import json
import math
from pathlib import Path

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import FAMILIES, base, votes
from transformers import AutoModelForSequenceClassification

from tiebreak.errors import TiebreakError
from tiebreak.model import classifier
from tiebreak.model.fast import compile
from tiebreak.model.lora import adapted_layers, adapter_state, load_adapter, read_adapter, save_adapter
from tiebreak.recipe.models import Lora
from tiebreak.recipe.schema import Prompt
from tiebreak.tokens.packing import pack
from tiebreak.tokens.prompt import tokenize

LORA = Lora(rank=4, alpha=8.0, dropout=0.0)


def adapted(family: str, seed: int = 3) -> classifier.Classifier:
    """A classifier whose adapters are not zero."""
    ours = classifier.load_adapted(base(family), LORA, None, "fp32", "cpu", seed)
    generator = torch.Generator().manual_seed(seed)
    for _, layer in adapted_layers(ours.model):
        layer.lora_B.data.normal_(std=0.1, generator=generator)
    return ours


def document(ours: classifier.Classifier) -> torch.Tensor:
    return tokenize(votes(1), ours.tokenizer, Prompt()).row(0, 0, 200)


@pytest.mark.parametrize("family", FAMILIES)
def test_peft_reads_our_adapters(family: str, tmp_path: Path) -> None:
    ours = adapted(family)
    save_adapter(adapter_state(ours.model, with_head=True), LORA, tmp_path / "adapter")
    plain = AutoModelForSequenceClassification.from_pretrained(
        base(family), num_labels=3, dtype=torch.float32, attn_implementation="eager"
    )
    theirs = peft.PeftModel.from_pretrained(plain, tmp_path / "adapter").eval()
    ids = document(ours)
    with torch.no_grad():
        expected = theirs(input_ids=torch.from_numpy(ids).long()[None], use_cache=False).logits
        torch.testing.assert_close(ours.logits(pack([ids])), expected, atol=1e-5, rtol=0)


def test_we_read_peft_adapters(tmp_path: Path) -> None:
    plain = AutoModelForSequenceClassification.from_pretrained(
        base("llama"), num_labels=3, dtype=torch.float32, attn_implementation="eager"
    )
    config = peft.LoraConfig(
        r=4,
        lora_alpha=8,
        lora_dropout=0.0,
        task_type="SEQ_CLS",
        target_modules="all-linear",
        init_lora_weights=False,
    )
    theirs = peft.get_peft_model(plain, config).eval()
    theirs.save_pretrained(tmp_path)
    ours = classifier.load_adapted(base("llama"), LORA, tmp_path, "fp32", "cpu")
    ids = document(ours)
    with torch.no_grad():
        expected = theirs(input_ids=torch.from_numpy(ids).long()[None], use_cache=False).logits
        torch.testing.assert_close(ours.logits(pack([ids])), expected, atol=1e-5, rtol=0)
    assert ours.head_trained


def test_a_fresh_adapter_changes_nothing_and_starts_like_pefts() -> None:
    ours = classifier.load_adapted(base("llama"), LORA, None, "fp32", "cpu")
    plain = classifier.load(base("llama"))
    ids = document(ours)
    with torch.no_grad():
        torch.testing.assert_close(ours.logits(pack([ids])), plain.logits(pack([ids])), atol=0, rtol=0)
    for _, layer in adapted_layers(ours.model):
        bound = 1 / math.sqrt(layer.lora_A.shape[1])  # kaiming_uniform with a = sqrt(5)
        assert 0.8 * bound < layer.lora_A.abs().max() <= bound


def test_an_adapter_without_a_head_leaves_it_untrained(tmp_path: Path) -> None:
    ours = adapted("qwen2")
    save_adapter(adapter_state(ours.model, with_head=False), LORA, tmp_path)
    again = classifier.load_adapted(base("qwen2"), LORA, tmp_path, "fp32", "cpu", seed=9)
    assert not again.head_trained
    state, lora = read_adapter(tmp_path)
    assert lora == LORA
    assert all(torch.equal(state[n], t) for n, t in adapter_state(again.model, with_head=False).items())


def test_another_rank_is_refused(tmp_path: Path) -> None:
    ours = adapted("llama")
    save_adapter(adapter_state(ours.model, with_head=False), LORA, tmp_path)
    other = classifier.load_adapted(base("llama"), Lora(rank=8, alpha=16), None, "fp32", "cpu")
    with pytest.raises(TiebreakError, match="rank 4"):
        load_adapter(other.model, tmp_path)


@pytest.mark.parametrize(
    ("key", "value"), [("use_rslora", True), ("use_dora", True), ("alpha_pattern", {"q_proj": 4})]
)
def test_an_adapter_of_another_kind_is_refused(tmp_path: Path, key: str, value: object) -> None:
    save_adapter(adapter_state(adapted("llama").model, with_head=False), LORA, tmp_path)
    config = tmp_path / "adapter_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {key: value}))
    with pytest.raises(TiebreakError, match=f"sets {key}: only plain LoRA"):
        read_adapter(tmp_path)


def test_dropout_is_the_same_where_layers_are_computed_again() -> None:
    def gradients(again: int) -> list[torch.Tensor]:
        ours = classifier.load_adapted(
            base("llama"), LORA.model_copy(update={"dropout": 0.5}), None, "fp32", "cpu"
        )
        for _, layer in adapted_layers(ours.model):
            layer.lora_B.data.fill_(0.01)
        ours.model.train()
        compile.recompute(ours.model, again)
        torch.manual_seed(0)
        ours.logits(pack([document(ours)])).sum().backward()
        return [p.grad for p in ours.trainable().values() if p.grad is not None]

    for found, expected in zip(gradients(3), gradients(0), strict=True):
        torch.testing.assert_close(found, expected)


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    """An adapter of the tiny Llama, whole."""
    save_adapter(adapter_state(adapted("llama").model, with_head=True), LORA, tmp_path / "adapter")
    return tmp_path / "adapter"


@pytest.mark.parametrize(
    ("keys", "why"),
    [
        ({"r": None}, "is damaged"),
        ({"r": "four"}, "is damaged"),
        ({"r": -1}, "is damaged"),
        ({"lora_alpha": []}, "is damaged"),
        ({"peft_type": "LOHA"}, "is of the kind 'LOHA'"),
        ({"bias": "all"}, "sets bias"),
        ({"use_dora": True}, "sets use_dora"),
        ({"target_parameters": ["mlp.experts.down_proj"]}, "sets target_parameters"),
        ({"trainable_token_indices": [1]}, "sets trainable_token_indices"),
    ],
)
def test_an_adapter_that_is_not_plain_lora(adapter: Path, keys: dict, why: str) -> None:
    config = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(json.dumps(config | keys))
    with pytest.raises(TiebreakError, match=why):
        read_adapter(adapter)


@pytest.mark.parametrize("file", ["adapter_config.json", "adapter_model.safetensors"])
@pytest.mark.parametrize("content", [b"", b"[1]", b"null", b"{", b"\xff\xfe", b"\xff" * 7 + b"\x0f{}", None])
def test_an_adapter_that_is_damaged(adapter: Path, file: str, content: bytes | None) -> None:
    (adapter / file).unlink()
    if content is None:
        (adapter / file).mkdir()
    else:
        (adapter / file).write_bytes(content)
    with pytest.raises(TiebreakError, match=r"adapter .*is damaged: .*; make or copy it again"):
        read_adapter(adapter)


def test_weights_beside_lora_are_not_dropped(adapter: Path) -> None:
    state = load_file(adapter / "adapter_model.safetensors")
    name = "base_model.model.model.embed_tokens.weight"
    save_file(state | {name: torch.zeros(2, 2)}, adapter / "adapter_model.safetensors")
    with pytest.raises(
        TiebreakError, match=rf"holds {name}, which is neither LoRA's A or B nor a score head"
    ):
        read_adapter(adapter)


def test_an_adapter_of_another_width_or_with_half_a_layer(adapter: Path) -> None:
    model = adapted("llama").model
    state = load_file(adapter / "adapter_model.safetensors")
    b = next(name for name in state if "lora_B" in name)
    save_file(state | {b: torch.zeros(3, 4)}, adapter / "adapter_model.safetensors")
    with pytest.raises(TiebreakError, match=r"is of another model: .* outputs, its adapter 3"):
        load_adapter(model, adapter)
    save_file({n: t for n, t in state.items() if n != b}, adapter / "adapter_model.safetensors")
    with pytest.raises(TiebreakError, match="holds A or B alone"):
        load_adapter(model, adapter)
