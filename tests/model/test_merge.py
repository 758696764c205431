from pathlib import Path

import pytest
import torch
from tiny_models import FAMILIES, base, votes
from transformers import AutoModelForSequenceClassification

from tiebreak.errors import TiebreakError
from tiebreak.model import classifier
from tiebreak.model.lora import adapted_layers, adapter_state
from tiebreak.model.merge import merge, save
from tiebreak.recipe.models import Lora
from tiebreak.recipe.schema import Prompt
from tiebreak.tokens.packing import pack
from tiebreak.tokens.prompt import tokenize

LORA = Lora(rank=4, alpha=8.0, dropout=0.0)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_merged_folder_reloads_in_plain_transformers(family: str, tmp_path: Path) -> None:
    adapted = classifier.load_adapted(base(family), LORA, None, "fp32", "cpu")
    for _, layer in adapted_layers(adapted.model):
        layer.lora_B.data.normal_(std=0.1, generator=torch.Generator().manual_seed(0))
    merged = classifier.load(base(family))
    merge(merged, adapter_state(adapted.model, with_head=True), LORA)
    save(merged, tmp_path / "model")
    assert "local_files_only" not in (tmp_path / "model" / "tokenizer_config.json").read_text()
    again = classifier.load(tmp_path / "model")
    assert again.head_trained
    plain = AutoModelForSequenceClassification.from_pretrained(tmp_path / "model")
    assert plain.config.id2label == {0: "a", 1: "b", 2: "tie"}
    assert plain.config.pad_token_id not in (None, plain.config.eos_token_id)
    row = tokenize(votes(1), adapted.tokenizer, Prompt()).row(0, 0, 200)
    with torch.no_grad():
        expected = adapted.logits(pack([row]))
        for logits in (
            merged.logits(pack([row])),
            again.logits(pack([row])),
            plain(input_ids=torch.from_numpy(row).long()[None], use_cache=False).logits,
        ):
            torch.testing.assert_close(logits, expected, atol=1e-5, rtol=0)


def test_an_adapter_without_a_head_cannot_ship() -> None:
    adapted = classifier.load_adapted(base("llama"), LORA, None, "fp32", "cpu")
    with pytest.raises(TiebreakError, match="no score head"):
        merge(classifier.load(base("llama")), adapter_state(adapted.model, with_head=False), LORA)
