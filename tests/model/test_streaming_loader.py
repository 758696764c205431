"""Tests of the streaming loader against that of transformers."""

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import FAMILIES, base
from transformers import AutoConfig, AutoModelForCausalLM

from tiebreak.errors import TiebreakError
from tiebreak.model import classifier, streaming_loader


@pytest.mark.parametrize("family", FAMILIES)
def test_a_plain_model_equals_transformers(family: str) -> None:
    ours, has_head = streaming_loader.load(
        base(family), classifier._config(base(family)), torch.float32, "cpu"
    )
    theirs = AutoModelForCausalLM.from_pretrained(base(family), dtype=torch.float32)
    assert not has_head
    assert not any(t.is_meta for t in (*ours.parameters(), *ours.buffers()))
    expected = dict(theirs.model.named_parameters(prefix="model")) | dict(
        theirs.model.named_buffers(prefix="model")
    )
    found = dict(ours.model.named_parameters(prefix="model")) | dict(ours.model.named_buffers(prefix="model"))
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor), name


def test_several_files_and_names_without_a_prefix(tmp_path: Path) -> None:
    shutil.copytree(base("llama"), tmp_path / "split")
    file = tmp_path / "split" / "model.safetensors"
    tensors = {name.removeprefix("model."): t for name, t in load_file(file).items()}
    names = sorted(tensors)
    file.unlink()
    for n, part in enumerate((names[::2], names[1::2])):
        save_file({name: tensors[name] for name in part}, file.with_name(f"part-{n}.safetensors"))
    whole, split = (
        streaming_loader.load(folder, classifier._config(folder), torch.float32, "cpu")[0].state_dict()
        for folder in (base("llama"), tmp_path / "split")
    )
    assert all(torch.equal(split[name], tensor) for name, tensor in whole.items() if name != "score.weight")


def test_a_folder_that_lacks_weights_is_refused(tmp_path: Path) -> None:
    shutil.copytree(base("llama"), tmp_path / "short")
    file = tmp_path / "short" / "model.safetensors"
    tensors = load_file(file)
    tensors.pop("model.layers.1.mlp.up_proj.weight")
    save_file(tensors, file)
    config = AutoConfig.from_pretrained(tmp_path / "short", num_labels=3)
    with pytest.raises(TiebreakError, match=r"does not fit together: it lacks weights, .*up_proj"):
        classifier._config(tmp_path / "short")
    with pytest.raises(TiebreakError, match="up_proj"):
        streaming_loader.load(tmp_path / "short", config, torch.float32, "cpu", "fp8")
    file.unlink()
    with pytest.raises(TiebreakError, match="no safetensors"):
        streaming_loader.load(tmp_path / "short", config, torch.float32, "cpu")


def test_the_size_counts_every_weight() -> None:
    model = classifier.load(base("qwen2")).model
    assert streaming_loader.count_parameters(classifier._config(base("qwen2"))) == sum(
        p.numel() for p in model.parameters()
    )
