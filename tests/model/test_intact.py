"""A model folder that no training could start from is refused by a look at its headers."""

import json
import shutil
import struct
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file
from tiny_models import FAMILIES, base

from tiebreak.errors import TiebreakError
from tiebreak.model import intact

SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A tiny Llama, whole."""
    return Path(shutil.copytree(base("llama"), tmp_path / "llama"))


@pytest.fixture
def sharded(folder: Path) -> Path:
    """The same in two shards with an index."""
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    where = {name: SHARDS[n % 2] for n, name in enumerate(weights)}
    for shard in SHARDS:
        save_file({name: weights[name] for name in weights if where[name] == shard}, folder / shard)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": where}))
    return folder


def refused(folder: Path, message: str) -> None:
    with pytest.raises(TiebreakError, match=message) as caught:
        intact.require(folder)
    assert str(folder) in str(caught.value)
    assert str(caught.value).endswith("; copy or download it again")


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_whole_passes(family: str) -> None:
    intact.require(base(family))


def test_shards_that_are_whole_pass(sharded: Path) -> None:
    intact.require(sharded)


@pytest.mark.parametrize("kept", [0, 5, 8, 100, 20_000, -1])
def test_weights_that_break_off(folder: Path, kept: int) -> None:
    weights = folder / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:kept])
    size = len(whole[:kept])
    refused(folder, rf"model\.safetensors \({size} bytes\) is damaged or breaks off: ")


@pytest.mark.parametrize("length", [3, 2**20, 2**40])
def test_a_length_of_the_header_that_lies(folder: Path, length: int) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(struct.pack("<Q", length) + weights.read_bytes()[8:])
    refused(folder, r"model\.safetensors .* is damaged")


def test_weights_longer_than_their_header_says(folder: Path) -> None:
    with (folder / "model.safetensors").open("ab") as file:
        file.write(b"more")
    refused(folder, r"model\.safetensors .* is damaged")


@pytest.mark.parametrize(
    "name", ["config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors.index.json"]
)
@pytest.mark.parametrize("text", ["", '{"model_type": "lla', "[1]", "\xff"])
def test_a_file_of_json_that_cannot_be_read(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(text, encoding="latin-1")
    refused(folder, rf"{name} is damaged: ")


def test_a_config_of_something_else(folder: Path) -> None:
    (folder / "config.json").write_text("{}")
    refused(folder, "names no model_type")


def test_a_shard_that_is_missing_or_damaged_or_another(sharded: Path) -> None:
    (sharded / SHARDS[0]).rename(sharded / "away")
    refused(sharded, f"it has no {SHARDS[0]}")
    shutil.copyfile(sharded / SHARDS[1], sharded / SHARDS[0])
    refused(sharded, f"{SHARDS[0]} lacks .*, which model.safetensors.index.json says is in it")
    (sharded / SHARDS[0]).write_bytes((sharded / "away").read_bytes()[:-5])
    refused(sharded, f"{SHARDS[0]} .* breaks off")


@pytest.mark.parametrize("index", [{}, {"weight_map": [1]}, {"weight_map": {"a": 1}}])
def test_an_index_without_a_map(folder: Path, index: dict) -> None:
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    refused(folder, "it has no weight_map of tensors to files")


@pytest.mark.parametrize("name", ["../model.safetensors", "/etc/passwd", "sub/model.safetensors", ".."])
def test_an_index_that_points_outside_its_folder(folder: Path, name: str) -> None:
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": name}}))
    refused(folder, f"names '{name}', which is no file of its folder")


def test_weights_that_are_quantised_are_refused_before_they_are_loaded(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text()) | {
        "quantization_config": {"quant_method": "awq"}
    }
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(TiebreakError, match=r"is quantised \(awq\); training and merging need"):
        intact.require(folder)


@pytest.mark.parametrize(
    ("key", "value"), [("num_labels", 10**9), ("vocab_size", -1), ("num_hidden_layers", 1e30)]
)
def test_a_config_that_would_fill_the_memory(folder: Path, key: str, value: float) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {key: value}))
    with pytest.raises(TiebreakError, match=rf"config\.json: {key} is .*; correct it, or "):
        intact.require(folder)
    (folder / "config.json").write_text(json.dumps(config | {"text_config": {key: value}}))
    with pytest.raises(TiebreakError, match=rf"config\.json: {key} is .*, and valid is 0 to 1"):
        intact.require(folder)


@pytest.mark.parametrize("text", ["{}", '{"peft_type": "LORA", "modules_to_save": ["embed_tokens"]}'])
def test_an_adapter_beside_the_weights(folder: Path, text: str) -> None:
    (folder / "adapter_config.json").write_text(text)
    with pytest.raises(
        TiebreakError,
        match=r"as its adapter_config\.json says.*: merge the adapter first, .* or remove adapter_config\.json$",
    ):
        intact.require(folder)


def test_the_known_activations_are_those_of_transformers() -> None:
    from transformers.activations import ACT2CLS

    from tiebreak.model.config_facts import _ACTIVATIONS

    assert sorted(ACT2CLS) == sorted(_ACTIVATIONS)
