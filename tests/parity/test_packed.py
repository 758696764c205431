"""Packed documents against plain transformers: right-padded, eager attention, the stock pooling."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tiny_models import FAMILIES, base, votes
from transformers import AutoModelForSequenceClassification, PreTrainedModel

from tiebreak.model import classifier
from tiebreak.recipe.schema import Prompt
from tiebreak.tokens.packing import pack
from tiebreak.tokens.prompt import tokenize


def documents(folder: Path, count: int = 7, max_tokens: int = 200) -> list[np.ndarray]:
    tokens = tokenize(votes(count), classifier.load(folder).tokenizer, Prompt())
    return [tokens.row(vote, vote % 2, max_tokens) for vote in range(count)]


def plain(ours: classifier.Classifier, folder: Path) -> PreTrainedModel:
    model = AutoModelForSequenceClassification.from_pretrained(
        folder, num_labels=3, dtype=torch.float32, attn_implementation="eager"
    )
    model.score.weight.data.copy_(ours.model.score.weight.data)
    model.config.pad_token_id = ours.model.config.pad_token_id
    return model.eval()


def padded_logits(model: PreTrainedModel, rows: list[np.ndarray]) -> torch.Tensor:
    longest = max(map(len, rows))
    ids_DL = torch.full((len(rows), longest), model.config.pad_token_id)
    mask_DL = torch.zeros_like(ids_DL)
    for d, row in enumerate(rows):
        ids_DL[d, : len(row)] = torch.from_numpy(row)
        mask_DL[d, : len(row)] = 1
    return model(input_ids=ids_DL, attention_mask=mask_DL, use_cache=False).logits


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_equal_padded_eager(family: str) -> None:
    ours = classifier.load(base(family))
    ours.model.eval()
    rows = documents(base(family))
    with torch.no_grad():
        expected = padded_logits(plain(ours, base(family)), rows)
        got = ours.logits(pack(rows))
    assert expected.std() > 1e-2, "the reference hardly varies, so the comparison would show nothing"
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_equal_padded_eager(family: str) -> None:
    ours = classifier.load(base(family))
    reference = plain(ours, base(family))
    ours.model.requires_grad_(True)
    rows = documents(base(family))
    labels = torch.arange(len(rows)) % 3
    F.cross_entropy(ours.logits(pack(rows)), labels).backward()
    F.cross_entropy(padded_logits(reference, rows), labels).backward()
    expected = {name: p.grad for name, p in reference.named_parameters()}
    for name, p in ours.model.named_parameters():
        torch.testing.assert_close(
            p.grad, expected[name], atol=1e-5, rtol=1e-3, msg=lambda m, n=name: f"{n}: {m}"
        )


def test_sliding_window_equals_eager(tmp_path: Path) -> None:
    folder = tmp_path / "windowed"
    shutil.copytree(base("gemma2"), folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"sliding_window": 16}))
    ours = classifier.load(folder)
    rows = documents(folder)
    assert max(map(len, rows)) > 32
    with torch.no_grad():
        expected = padded_logits(plain(ours, folder), rows)
        torch.testing.assert_close(ours.logits(pack(rows)), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_do_not_depend_on_the_company(family: str) -> None:
    ours = classifier.load(base(family))
    rows = documents(base(family))
    with torch.no_grad():
        together = ours.logits(pack(rows))
        alone = torch.cat([ours.logits(pack([row])) for row in rows])
        backwards = ours.logits(pack(rows[::-1])).flip(0)
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)
    torch.testing.assert_close(together, backwards, atol=1e-5, rtol=0)
