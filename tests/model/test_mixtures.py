"""Mixtures of experts, whose files name each expert and whose class holds them in one tensor."""

import logging
from pathlib import Path

import pytest
import torch
from tiny_models import base
from transformers import (
    CONFIG_MAPPING,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
)

from tiebreak.errors import TiebreakError
from tiebreak.model import families, intact, self_check
from tiebreak.model.classifier import load, load_adapted
from tiebreak.recipe.models import Lora
from tiebreak.tokens.packing import pack

LORA = Lora(rank=4, alpha=8.0, dropout=0.0)


@pytest.fixture(scope="module", params=["mixtral", "qwen3_moe"])
def mixture(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mixture") / request.param
    tokenizer = AutoTokenizer.from_pretrained(base("qwen2"))
    config = self_check.tiny(CONFIG_MAPPING[request.param](num_hidden_layers=2, initializer_range=0.2))
    config.vocab_size = len(tokenizer)
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_it_is_whole_and_computes_what_transformers_does(mixture: Path) -> None:
    intact.require(mixture)
    ours = load(mixture)
    plain = AutoModelForSequenceClassification.from_pretrained(
        mixture, num_labels=3, attn_implementation="eager", pad_token_id=0, dtype=torch.float32
    )
    plain.score.weight.data.copy_(ours.model.score.weight)
    documents = [self_check._document(length, length) for length in (9, 30)]
    with torch.no_grad():
        expected = torch.cat([self_check._plain_logits(plain, document) for document in documents])
        torch.testing.assert_close(ours.logits(pack(documents)), expected, atol=1e-5, rtol=0)
    assert expected.std() > 1e-3


def test_what_its_adapter_leaves_out_is_said(mixture: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="tiebreak"):
        load_adapted(mixture, LORA, None, "fp32", "cpu")
    assert (
        f"{mixture.name}: adapters on all linear layers, none on mlp.experts.down_proj, mlp.experts.gate_up_proj"
        in (caplog.text)
    )
    caplog.clear()
    with caplog.at_level(logging.INFO, logger="tiebreak"):
        load_adapted(base("llama"), LORA, None, "fp32", "cpu")
        load_adapted(base("llama"), LORA, None, "fp8", "cpu")
    assert "none on" not in caplog.text


def test_it_is_not_said_to_lack_weights_where_they_are_named_otherwise(mixture: Path) -> None:
    with pytest.raises(
        TiebreakError, match=r"stores .*experts\.0\..* cannot be encoded in fp8 .*: choose precision bf16"
    ):
        load_adapted(mixture, LORA, None, "fp8", "cpu")


def test_mixtures_are_known_by_their_configuration() -> None:
    assert families.is_mixture({"num_local_experts": 8})
    assert not families.is_mixture({"num_experts": 0})
    assert not families.is_mixture({"model_type": "llama"})
