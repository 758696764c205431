"""Tiny classifiers, as stored and quantised, shared by several tests."""

from functools import cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tiny_models import base, temporary_folder, votes
from transformers import AutoModelForSequenceClassification

from tiebreak.judge import gptq
from tiebreak.model import classifier
from tiebreak.recipe.schema import Prompt
from tiebreak.tokens.prompt import tokenize

GROUP = 32  # the widths are 32 and 64, so layers have one group and two


@cache
def stored(family: str, dtype: torch.dtype = torch.float32) -> Path:
    """A classifier with a score head that makes its logits vary by units."""
    folder = temporary_folder()
    loaded = classifier.load(base(family))
    head = loaded.model.score.weight.data * 50
    model = loaded.model.to(dtype)
    model.score.float().weight.data.copy_(head)
    model.save_pretrained(folder)
    loaded.tokenizer.save_pretrained(folder)
    return folder


@cache
def quantized(family: str, method: gptq.Method = "gptq", dtype: torch.dtype = torch.float32) -> Path:
    folder = temporary_folder() / "model"
    gptq.quantize(stored(family, dtype), folder, documents(family, 20), GROUP, method)
    return folder


@cache
def documents(family: str, count: int, seed: int = 0) -> list[NDArray[np.int32]]:
    tokens = tokenize(votes(count, seed), classifier.load(base(family)).tokenizer, Prompt())
    return [tokens.row(vote, vote % 2, 200) for vote in range(count)]


def plain_logits(folder: Path, rows: list[NDArray[np.int32]], **kwargs: object) -> torch.Tensor:
    """Logits of plain transformers, one row at a time."""
    model = AutoModelForSequenceClassification.from_pretrained(folder, **kwargs).eval()
    with torch.no_grad():
        return torch.cat([model(input_ids=torch.from_numpy(row)[None].long()).logits for row in rows])


def weights(folder: Path) -> dict[str, torch.Tensor]:
    """The weights that plain transformers computes with."""
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    model(input_ids=torch.tensor([[1, 2, 3]]))  # codes become weights at the first forward
    return {name: p.detach() for name, p in model.named_parameters() if name.endswith((".weight", ".bias"))}
