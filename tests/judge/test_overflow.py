"""Rows that exceed fp16 are scored in fp32, as on cards without bf16: the same as a judge that is in fp32 all along."""

import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import base, votes

from tiebreak.judge import package
from tiebreak.judge.judge import load_judge
from tiebreak.model import classifier
from tiebreak.model.merge import save
from tiebreak.model.precision import widened
from tiebreak.recipe.schema import Prompt, Tta


def judge_folder(folder: Path, family: str, loud: float) -> Path:
    """A judge whose weights are numbers of fp16; those of one MLP are `loud` times as large."""
    model = classifier.load(base(family), device="cpu")
    model.model.score.weight.data.normal_(std=0.5, generator=torch.Generator().manual_seed(0))
    save(model, folder)
    (path,) = folder.glob("*.safetensors")
    weights = {name: tensor.float() for name, tensor in load_file(path).items()}
    weights["model.layers.0.mlp.down_proj.weight"] *= loud
    save_file({name: tensor.half().float() for name, tensor in weights.items()}, path, {"format": "pt"})
    package.write(
        package.Package(prompt=Prompt(), tta=Tta(max_tokens=120), calibration={"temperature": 1.0}), folder
    )
    return folder


@pytest.mark.parametrize(
    ("family", "tolerance"),
    [("llama", 1e-6), ("gemma2", 1e-4)],  # Gemma multiplies embeddings by a square root, rounded to fp16
)
def test_rows_that_overflow_are_as_in_fp32(
    family: str, tolerance: float, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = judge_folder(tmp_path / "model", family, 2e4)
    wide, narrow = (load_judge(folder, "cpu", precision=precision) for precision in ("fp32", "fp16"))
    table = votes(12)
    with caplog.at_level(logging.INFO, "tiebreak"):
        p_NC = narrow.predict_table(table)
    assert "24 of 24 rows exceed fp16 and are scored again in fp32" in caplog.text
    assert np.allclose(p_NC, wide.predict_table(table), atol=tolerance)
    assert narrow.classifier.model.dtype == torch.float16, "and it is in fp16 again"


def test_nothing_is_done_twice_where_nothing_overflows(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    narrow = load_judge(judge_folder(tmp_path / "model", "llama", 1.0), "cpu", precision="fp16")
    with caplog.at_level(logging.INFO, "tiebreak"):
        narrow.predict_table(votes(4))
    assert "fp16" not in caplog.text


def test_a_model_comes_back_as_it_was_to_the_bit() -> None:
    model = torch.nn.Linear(3, 2).half()
    codes = torch.nn.Parameter(torch.tensor([1, -2], dtype=torch.int8), requires_grad=False)
    model.register_parameter("codes", codes)
    model.register_buffer("frequency", torch.tensor([0.1]))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with widened(model):
        kinds = {name: tensor.dtype for name, tensor in model.state_dict().items()}
        assert (kinds["weight"], kinds["codes"]) == (torch.float32, torch.int8)
    for name, tensor in model.state_dict().items():
        assert tensor.dtype == before[name].dtype
        assert torch.equal(tensor, before[name])
