"""Tests of tiny models: traits of the families, reproducibility, loading by plain transformers."""

from hashlib import sha256

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from tiebreak.model import tiny
from tiebreak.tokens.prompt import TEMPLATES
from tiebreak.votes import synthetic

FAMILIES = ("llama", "qwen2", "gemma2")
SPECIALS = {
    "llama": ("<|begin_of_text|>", "<|eot_id|>", None),
    "qwen2": (None, "<|im_end|>", "<|endoftext|>"),
    "gemma2": ("<bos>", "<eos>", "<pad>"),
}


def texts():
    table = synthetic.generate(300, seed=0)
    columns = (table[name].combine_chunks() for name in ("prompt", "response_a", "response_b"))
    return [turn for column in columns for turn in column.flatten().to_pylist()]


def digests(folder):
    return {path.name: sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


@pytest.fixture(scope="module", params=FAMILIES)
def made(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny") / request.param
    tiny.make(folder, request.param, texts(), seed=1)
    return request.param, folder


def test_the_same_arguments_write_the_same_bytes(made, tmp_path):
    family, folder = made
    state = torch.get_rng_state()
    tiny.make(tmp_path / "again", family, texts(), seed=1)
    tiny.make(tmp_path / "other", family, texts(), seed=2)
    assert torch.equal(torch.get_rng_state(), state)
    assert digests(tmp_path / "again") == digests(folder)
    differing = {
        name for name, value in digests(folder).items() if digests(tmp_path / "other")[name] != value
    }
    assert differing == {"model.safetensors"}


def test_transformers_loads_it_without_a_score_head(made):
    _, folder = made
    _, info = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    _, info = AutoModelForSequenceClassification.from_pretrained(
        folder, num_labels=3, output_loading_info=True
    )
    assert set(info["missing_keys"]) == {"score.weight"}


def test_special_tokens_are_the_familys(made):
    family, folder = made
    tokenizer, config = AutoTokenizer.from_pretrained(folder), AutoConfig.from_pretrained(folder)
    assert (tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token) == SPECIALS[family]
    assert config.eos_token_id == tokenizer.eos_token_id
    assert config.pad_token_id == tokenizer.pad_token_id
    opening = tokenizer("clear")["input_ids"][0]
    assert (opening == tokenizer.bos_token_id) == (family != "qwen2")


@pytest.mark.parametrize(
    "text",
    ["a  b\n\n\n c\t", 'naïve "quotes" \'s', "日本語 テキスト 😀🏽", "x = 12345;\r\n- y", " leading", ""],
)
def test_any_text_comes_back(made, text):
    tokenizer = AutoTokenizer.from_pretrained(made[1])
    assert tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"]) == text


def test_words_and_template_are_few_tokens(made):
    tokenizer = AutoTokenizer.from_pretrained(made[1])
    pieces = tokenizer(list(TEMPLATES["published"]), add_special_tokens=False)["input_ids"]
    assert sum(map(len, pieces)) < 20
    assert len(tokenizer(" careless compost.", add_special_tokens=False)["input_ids"]) == 3


def test_the_shape_is_the_familys(made):
    family, folder = made
    config, model = AutoConfig.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)
    attention = model.model.layers[0].self_attn
    assert config.model_type == family
    assert config.num_key_value_heads < config.num_attention_heads
    assert config.tie_word_embeddings
    if family == "gemma2":
        assert config.head_dim != config.hidden_size // config.num_attention_heads
        assert (config.attn_logit_softcapping, config.sliding_window) == (50.0, 4096)
    assert (attention.q_proj.bias is not None) == (family == "qwen2")
    if family == "qwen2":
        assert attention.q_proj.bias.abs().min() > 0


def test_sizes_are_as_asked_and_an_old_folder_is_replaced(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "stale.bin").write_text("old")
    tiny.make(folder, "llama", ["a small text"] * 9, hidden=32, layers=3, heads=4, vocab=300)
    config = AutoConfig.from_pretrained(folder)
    assert (config.hidden_size, config.num_hidden_layers, config.num_attention_heads) == (32, 3, 4)
    assert config.vocab_size <= 300
    assert not (folder / "stale.bin").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
