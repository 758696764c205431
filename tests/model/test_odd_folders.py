"""Odd model folders: each is refused with one TiebreakError, before any work, and none takes the machine."""

import json
import os
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import base

from tiebreak.engine.workspace import Workspace
from tiebreak.errors import TiebreakError
from tiebreak.model.classifier import load
from tiebreak.pipeline.graph import Source

Change = Callable[[Path], None]
RECIPE = """
name: judge
data: {votes: [votes.csv]}
models: {teachers: {odd: {base: odd}}, student: {base: odd}}
split: {count: 2}
"""


def config(*without: str, **keys: object) -> Change:
    def change(folder: Path) -> None:
        found = json.loads((folder / "config.json").read_text()) | keys
        (folder / "config.json").write_text(json.dumps({k: v for k, v in found.items() if k not in without}))

    return change


def text(name: str, content: str) -> Change:
    return lambda folder: (folder / name).write_text(content) and None


def header(content: object) -> Change:
    """Weights with this header, and nothing else."""
    raw = content if isinstance(content, bytes) else json.dumps(content).encode()
    whole = struct.pack("<Q", len(raw)) + raw
    return lambda folder: (folder / "model.safetensors").write_bytes(whole) and None


def weights(change: Callable[[dict[str, torch.Tensor]], object]) -> Change:
    def changed(folder: Path) -> None:
        state = load_file(folder / "model.safetensors")
        change(state)
        save_file(state, folder / "model.safetensors")

    return changed


def cut(size: int) -> Change:
    return lambda folder: os.truncate(folder / "model.safetensors", size)


def length(claimed: int) -> Change:
    def change(folder: Path) -> None:
        whole = (folder / "model.safetensors").read_bytes()
        (folder / "model.safetensors").write_bytes(struct.pack("<Q", claimed) + whole[8:])

    return change


def as_folder(name: str) -> Change:
    def change(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        (folder / name).mkdir()

    return change


def dangling(name: str) -> Change:
    def change(folder: Path) -> None:
        (folder / name).unlink()
        (folder / name).symlink_to("nowhere")

    return change


def twice(folder: Path) -> None:
    shutil.copyfile(folder / "model.safetensors", folder / "older.safetensors")


def pickled(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def unfit(model_type: str, **keys: object) -> Change:
    return lambda folder: (
        (folder / "config.json").write_text(json.dumps({"model_type": model_type, **keys})) and None
    )


UP = "model.layers.0.mlp.up_proj.weight"
INDEX = "model.safetensors.index.json"
ODD: dict[str, tuple[Change, str]] = {
    "config: a list": (text("config.json", "[]"), "holds list, not an object"),
    "config: null": (text("config.json", "null"), "holds NoneType, not an object"),
    "config: empty": (text("config.json", ""), "config.json is damaged"),
    "config: deep": (text("config.json", "[" * 100_000), "config.json is damaged"),
    "config: no object inside": (config(rope_parameters=[1]), r"rope_parameters is \[1\], no object"),
    "config: no model_type": (config("model_type"), "names no model_type"),
    "config: model_type a number": (config(model_type=3), "model_type is 3, no name"),
    "config: model_type a list": (config(model_type=["llama"]), "model_type is .*, no name"),
    "config: unknown model_type": (config(model_type="mine"), "transformers does not know it"),
    "config: own code": (config(model_type="mine", auto_map={"AutoModel": "a.B"}), "own code is never run"),
    "config: no layers": (config("num_hidden_layers"), "num_hidden_layers is missing"),
    "config: no width": (config("hidden_size"), "hidden_size is missing"),
    "config: layers as text": (config(num_hidden_layers="3"), "num_hidden_layers is '3', not a whole number"),
    "config: half a layer": (config(num_hidden_layers=2.5), "num_hidden_layers is 2.5, not a whole number"),
    "config: true heads": (config(num_attention_heads=True), "num_attention_heads is True, not a whole"),
    "config: too many layers": (config(num_hidden_layers=10**9), "the files hold 3 layers"),
    "config: too few layers": (config(num_hidden_layers=2), "the files hold 3 layers"),
    "config: vocabulary of 0": (config(vocab_size=0), "vocab_size is 0, not a whole number above 0"),
    "config: vocabulary below 0": (config(vocab_size=-1), "vocab_size is -1, not a whole number above 0"),
    "config: a huge vocabulary": (config(vocab_size=10**12), r"makes embed_tokens.weight \[1000000000000, 32\]"),
    "config: a huge feed-forward": (config(intermediate_size=10**12), "makes layers.0.mlp.up_proj.weight"),
    "config: another width": (config(hidden_size=64), "the file holds"),
    "config: heads that do not divide": (config("head_dim", num_attention_heads=5), "is no multiple of num_att"),
    "config: shared heads that do not": (config(num_key_value_heads=3), "is no multiple of num_key_value_heads 3"),
    "config: more key heads": (config(num_key_value_heads=4), "does not fit together: .*k_proj"),
    "config: a dtype nobody knows": (config(dtype="float7"), "dtype is 'float7'; known are float32"),
    "config: an activation nobody knows": (config(hidden_act="silou"), "hidden_act is 'silou'; did you mean 'silu'"),
    "config: a flag as text": (config(tie_word_embeddings="false"), "tie_word_embeddings is 'false', no true or"),
    "config: a token as text": (config(pad_token_id="x"), "pad_token_id is 'x', no whole number"),
    "config: labels as a list": (config(id2label=[]), r"id2label is \[\], no object"),
    "config: labels counted in text": (config(num_labels="3"), "num_labels is '3', no whole number"),
    "config: one architecture": (config(architectures="x"), "architectures is 'x', no list"),
    "config: layer types too few": (config(layer_types=["full_attention"]), "layer_types does not name a type"),
    "config: layer types unknown": (config(layer_types=["own"] * 3), "of the family 'llama', which .*layer_types"),
    "config: a rope nobody knows": (config(rope_parameters={"rope_type": "own"}), "of the family 'llama', which"),
    "config: quantised by a word": (config(quantization_config="int4"), r"is quantised \(int4\)"),
    "config: an epsilon of 0": (config(rms_norm_eps=0), "rms_norm_eps is 0, and valid is 1e-30 to 0.1"),
    "config: an epsilon below 0": (config(rms_norm_eps=-1e-6), "rms_norm_eps is -1e-06, and valid is"),
    "config: an epsilon that is NaN": (config(rms_norm_eps=float("nan")), "rms_norm_eps is nan, and valid is"),
    "config: an epsilon as text": (config(rms_norm_eps="1e-6"), "rms_norm_eps is '1e-6', and valid is"),
    "config: theta of 0": (config(rope_theta=0), "rope_theta is 0, and valid is 2 to 1e[+]12"),
    "config: theta that is NaN": (
        config(rope_parameters={"rope_type": "default", "rope_theta": float("nan")}), "rope_parameters.rope_theta is nan, and"
    ),
    "config: theta without end": (config(rope_theta=float("inf")), "rope_theta is inf, and valid is"),
    "config: a rope stretched by 0": (
        config(rope_parameters={"rope_type": "linear", "factor": 0, "rope_theta": 1e4}), "rope_parameters.factor is 0, and"
    ),
    "config: an initializer that is NaN": (config(initializer_range=float("nan")), "initializer_range is nan, and"),
    "config: a dropout of 2": (config(attention_dropout=2), "attention_dropout is 2, and valid is 0 to 1"),
    "config: NaN elsewhere": (config(anything={"deep": float("nan")}), "anything.deep is nan, no number"),
    "config: a key twice": (text("config.json", '{"vocab_size": 1, "vocab_size": 2}'), "'vocab_size' is there twice"),
    "config: an encoder-decoder": (unfit("t5", is_encoder_decoder=True), "an encoder and a decoder"),
    "config: an encoder": (unfit("bert"), "BertForSequenceClassification has no model.layers"),
    "config: a picture model": (unfit("vit"), "no AutoModelForSequenceClassification"),
    "config: a folder": (as_folder("config.json"), "no config.json|is a folder, not a file"),
    "config: a dangling link": (dangling("config.json"), "no config.json|is a link to a file that is not there"),
    "weights: none": (lambda folder: (folder / "model.safetensors").unlink(), "it has no model.safetensors"),
    "weights: pickled": (pickled, "has its weights in pytorch_model.bin, and only safetensors are read"),
    "weights: a folder": (as_folder("model.safetensors"), "is a folder, not a file"),
    "weights: a dangling link": (dangling("model.safetensors"), "is a link to a file that is not there"),
    "weights: zero bytes": (cut(0), r"\(0 bytes\) is damaged"),
    "weights: a header that breaks off": (cut(300), r"\(300 bytes\) is damaged"),
    "weights: data that break off": (cut(20_000), r"\(20000 bytes\) is damaged"),
    "weights: a header of 2^60": (length(2**60), "is damaged"),
    "weights: a header of 2^64": (length(2**64 - 1), "is damaged"),
    "weights: a header of no JSON": (header(b"\xff{"), "is damaged"),
    "weights: a list as header": (header([1]), "is damaged"),
    "weights: a tensor without data": (header({"a": {"dtype": "F32", "shape": [10**9], "data_offsets": [0, 0]}}), "is damaged"),
    "weights: an unknown dtype": (header({"a": {"dtype": "F7", "shape": [0], "data_offsets": [0, 0]}}), "is damaged"),
    "weights: no tensor": (header({}), "the files hold no weights"),
    "weights: one missing": (weights(lambda state: state.pop(UP)), "layer 0 lacks mlp.up_proj.weight, which others"),
    "weights: one of another shape": (
        weights(lambda state: state.update({UP: torch.zeros(3, 3)})), r"makes layers.0.mlp.up_proj.weight .*holds \[3, 3\]"
    ),
    "weights: whole numbers": (weights(lambda state: state.update({UP: state[UP].int()})), "of the type I32"),
    "weights: twice": (twice, "holds lm_head.weight twice|holds model.embed_tokens.weight twice"),
    "index: shards that are missing": (text(INDEX, '{"weight_map": {"a": "b.safetensors"}}'), "it has no b.safetensors"),
    "index: empty": (text(INDEX, "{}"), "has no weight_map"),
    "index: outside": (text(INDEX, '{"weight_map": {"a": "../b"}}'), "is no file of its folder"),
    "index: a folder": (as_folder(INDEX), "is a folder, not a file"),
    "tokenizer: none": (lambda folder: (folder / "tokenizer.json").unlink(), "it has no tokenizer.json"),
    "tokenizer: empty": (text("tokenizer.json", ""), "tokenizer.json is damaged"),
    "tokenizer: of nothing": (text("tokenizer.json", "{}"), "tokenizer.json is damaged"),
    "tokenizer: a folder": (as_folder("tokenizer.json"), "no tokenizer.json|is a folder, not a file"),
    "tokenizer: settings a list": (text("tokenizer_config.json", "[]"), "tokenizer_config.json is damaged"),
    "tokenizer: BOS a number": (text("tokenizer_config.json", '{"bos_token": 5}'), "bos_token is 5; .*correct it"),
    "tokenizer: padding a list": (text("tokenizer_config.json", '{"pad_token": []}'), r"pad_token is \[\]; .*correct it"),
    "tokenizer: EOS a number": (text("tokenizer_config.json", '{"eos_token": 3}'), "eos_token is 3; .*correct it"),
    "tokenizer: an unknown class": (text("tokenizer_config.json", '{"tokenizer_class": "Own"}'), "tokenizer|EOS"),
}  # fmt: skip


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    return Path(shutil.copytree(base("llama"), tmp_path / "odd"))


def plan_and_load(folder: Path) -> None:
    Workspace(folder.parent / "recipe.yaml").fingerprint(Source("odd", None, is_model=True))
    load(folder)


@pytest.mark.parametrize("name", ODD)
def test_one_error_that_says_what_is_wrong(odd: Path, name: str) -> None:
    change, why = ODD[name]
    change(odd)
    with pytest.raises(TiebreakError, match=why) as caught:
        plan_and_load(odd)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1000
    assert str(odd) in str(caught.value)


@pytest.mark.skipif(os.getuid() == 0, reason="root reads everything")
@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_file_that_may_not_be_read(odd: Path, name: str) -> None:
    (odd / name).chmod(0)
    with pytest.raises((TiebreakError, PermissionError)):
        Workspace(odd.parent / "recipe.yaml").fingerprint(Source("odd", None, is_model=True))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (text("adapter_config.json", "{}"), "is an adapter of a model"),
        (config(quantization_config={"quant_method": "gptq"}), r"is quantised \(gptq\)"),
        (config(rms_norm_eps=-1), "rms_norm_eps is -1, and valid is"),
        (config(model_type="mine"), "transformers does not know it"),
    ],
)
def test_a_model_of_the_hub_is_refused_before_its_weights_come(
    odd: Path, change: Change, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    change(odd)
    commit = "0123456789abcdef0123456789abcdef01234567"
    asked: list[str] = []

    def snapshot_download(*_: object, allow_patterns: list[str], **__: object) -> str:
        asked.extend(allow_patterns)
        return str(Path(shutil.copytree(odd, odd.parent / commit)))

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(odd.parent / "cache"))
    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    work = Workspace(odd.parent / "recipe.yaml")
    with pytest.raises(TiebreakError, match=why):
        work.resolve(Source("owner/name", commit, is_model=True))
    assert "*.json" in asked
    assert "*.safetensors" not in asked
