"""Tokenizers that rows cannot be made with are refused before any work, or mended with a word."""

import json
import shutil
from pathlib import Path

import pytest
from tiny_models import FAMILIES, base
from transformers import AutoTokenizer

from tiebreak.errors import TiebreakError
from tiebreak.model import hub, intact, tokenizer_facts
from tiebreak.model.classifier import load


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(base("qwen2"), tmp_path / "qwen2"))


def change(file: Path, **keys: object) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | keys))


def vocabulary(folder: Path) -> int:
    return int(json.loads((folder / "config.json").read_text())["vocab_size"])


def test_a_tokenizer_without_eos(folder: Path) -> None:
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        if (folder / name).exists():
            change(folder / name, eos_token=None, tokenizer_class="PreTrainedTokenizerFast")
    for look in (intact.require, load):
        with pytest.raises(
            TiebreakError, match=r"has no EOS token, .*: name one of its tokens as eos_token in its"
        ):
            look(folder)


def test_half_of_a_surrogate_pair_is_no_token(folder: Path) -> None:
    change(folder / "tokenizer_config.json", eos_token="\ud83d")
    assert "\\ud83d" in (folder / "tokenizer_config.json").read_text(), "as JSON may hold it"
    for look in (intact.require, load):
        with pytest.raises(TiebreakError, match=r"ud83d|surrogates"):
            look(folder)


@pytest.mark.parametrize("special", [True, False])
def test_a_padding_token_beyond_the_embeddings(
    folder: Path, special: bool, caplog: pytest.LogCaptureFixture
) -> None:
    size = vocabulary(folder)
    tokens = json.loads((folder / "tokenizer.json").read_text())["added_tokens"]
    added = tokens[0] | {"id": size, "content": "[PAD]", "special": special}
    change(folder / "tokenizer.json", added_tokens=[*tokens, added])
    change(folder / "tokenizer_config.json", pad_token="[PAD]" if special else None)
    change(folder / "config.json", pad_token_id=size)
    if not special:  # a text may then hold it
        with pytest.raises(
            TiebreakError, match=rf"has the token '\[PAD\]' with the id {size}, and the model knows {size}"
        ):
            intact.require(folder)
        return
    intact.require(folder)
    loaded = load(folder)
    assert 0 <= loaded.model.config.pad_token_id < size
    assert loaded.tokenizer.pad_token_id == loaded.model.config.pad_token_id != loaded.tokenizer.eos_token_id
    assert (
        f"the padding token of {folder}, {size}, is beyond its {size} embeddings; another is taken"
        in caplog.text
    )


def test_special_tokens_beyond_the_embeddings(folder: Path) -> None:
    eos = load(folder).tokenizer.eos_token_id
    with pytest.raises(TiebreakError, match="take the tokenizer that belongs to the model"):
        tokenizer_facts.prepare(load(folder).tokenizer, eos, str(folder))


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", '{"model": {"type": "BPE"}}', '{"version": "1.0", "model": 3}']
)
def test_a_tokenizer_that_is_none(folder: Path, text: str) -> None:
    (folder / "tokenizer.json").write_text(text)
    with pytest.raises(TiebreakError, match=r"tokenizer\.json is damaged: .*copy or download it again"):
        intact.require(folder)


@pytest.mark.parametrize("offline", [True, False])
def test_a_saved_tokenizer_does_not_tell_how_it_was_loaded(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, offline: bool
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", offline)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer.init_kwargs["local_files_only"] is offline  # what transformers would write
    tokenizer_facts.save(tokenizer, tmp_path / "saved")
    saved = json.loads((tmp_path / "saved" / "tokenizer_config.json").read_text())
    assert saved["eos_token"] == "<|im_end|>"
    assert not {"local_files_only", "is_local"} & saved.keys()


ODD_VALUES: tuple[object, ...] = (
    None,
    5,
    True,
    "x",
    ["x"],
    [5],
    {"a": 1},
    {"content": 5},
    {"content": "x"},
    False,
)
KEYS = (
    "eos_token bos_token sep_token additional_special_tokens extra_special_tokens added_tokens_decoder padding_side "
    "truncation_side model_max_length model_input_names chat_template tokenizer_class auto_map split_special_tokens "
    "add_bos_token add_prefix_space clean_up_tokenization_spaces name_or_path legacy vocab of_nobody"
).split()


@pytest.mark.parametrize("key", KEYS)
def test_settings_are_refused_before_any_work_where_loading_would_fail(folder: Path, key: str) -> None:
    file, size = folder / "tokenizer_config.json", vocabulary(folder)
    whole = file.read_text()
    for value in ODD_VALUES:
        file.write_text(whole)
        change(file, **{key: value})
        try:
            loaded = AutoTokenizer.from_pretrained(folder)
            tokenizer_facts.prepare(loaded, size, str(folder))
            loaded("a")
        except Exception:
            with pytest.raises(
                TiebreakError,
                match=rf"tokenizer_config\.json: ({key} is|no token is) .*correct it|has no EOS",
            ):
                intact.require(folder)
        else:
            intact.require(folder)


def test_usual_settings_take_no_loading(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of every family that the tests know, and what older versions of transformers wrote."""
    monkeypatch.setattr(hub, "tokenizer", None)
    for family in FAMILIES:
        tokenizer_facts.require_folder(base(family), vocabulary(base(family)), "")
    added = {"0": {"content": "<pad>", "lstrip": False, "special": True}}
    change(
        folder / "tokenizer_config.json",
        added_tokens_decoder=added,
        legacy=True,
        add_bos_token=True,
        model_max_length=1e30,
    )
    tokenizer_facts.require_folder(folder, vocabulary(folder), "")
