"""Tiny random decoders of the real families, with tokenizers trained on the votes, for the demo and the tests.

They differ from the real ones only in size: special tokens, grouped-query attention, Qwen2's biases, Qwen3's
norms and head size, and Gemma-2's soft-caps, head size and sliding window are the families' own.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import Gemma2Config, LlamaConfig, PreTrainedTokenizerFast, Qwen2Config, Qwen3Config

from tiebreak.model.decoders import AutoModelForCausalLM, PreTrainedConfig
from tiebreak.output import replacing_folder
from tiebreak.tokens.prompt import TEMPLATES

Family = Literal["llama", "qwen2", "qwen3", "gemma2"]
MAX_POSITIONS = 8192


@dataclass(frozen=True)
class _Specials:
    """The special tokens of a family in the order of their ids; bos, where there is one, opens every text."""

    bos: str | None
    eos: str
    pad: str | None
    unk: str | None = None

    def tokens(self) -> list[str]:
        return [token for token in (self.pad, self.eos, self.bos, self.unk) if token]


SPECIALS = {
    "llama": _Specials("<|begin_of_text|>", "<|eot_id|>", pad=None),
    "qwen2": _Specials(None, "<|im_end|>", pad="<|endoftext|>"),
    "qwen3": _Specials(None, "<|im_end|>", pad="<|endoftext|>"),
    "gemma2": _Specials("<bos>", "<eos>", pad="<pad>", unk="<unk>"),
}

WORDS = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
"""The pre-tokenizer pattern of Llama 3 and Qwen (without English contractions)."""


def make(
    folder: Path,
    family: Family,
    texts: Iterable[str],
    seed: int = 0,
    *,
    hidden: int = 64,
    layers: int = 2,
    heads: int = 2,
    vocab: int = 1024,
    initializer_range: float = 0.02,
) -> None:
    """Write a random causal language model and its tokenizer as a transformers folder; no score head.

    hidden is a multiple of twice the number of heads, which is even: two heads share keys and values.
    The same arguments write the same bytes. A folder of that name is replaced.
    """
    tokenizer = _tokenizer(family, texts, vocab)
    config = _config(family, tokenizer, hidden, layers, heads, initializer_range)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config)
        for name, parameter in model.named_parameters():
            if name.endswith(".bias"):  # zero by default, which would hide a lost bias
                torch.nn.init.normal_(parameter, std=initializer_range)
            elif name.endswith(("q_norm.weight", "k_norm.weight")):  # one by default
                torch.nn.init.normal_(parameter, mean=1.0, std=initializer_range)
    with replacing_folder(folder) as partial:
        model.save_pretrained(partial)
        tokenizer.save_pretrained(partial)


def _config(
    family: Family,
    tokenizer: PreTrainedTokenizerFast,
    hidden: int,
    layers: int,
    heads: int,
    initializer_range: float,
) -> PreTrainedConfig:
    shape: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "hidden_size": hidden,
        "intermediate_size": 2 * hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": heads // 2,
        "max_position_embeddings": MAX_POSITIONS,
        "initializer_range": initializer_range,
        "tie_word_embeddings": True,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    if family == "llama":
        return LlamaConfig(**shape)
    if family == "qwen2":
        return Qwen2Config(**shape)
    if family == "qwen3":
        return Qwen3Config(
            **shape, head_dim=2 * hidden // heads
        )  # wider than hidden / heads, as in Qwen3-0.6B
    head = 3 * hidden // (2 * heads)  # wider than hidden / heads, as in Gemma-2
    return Gemma2Config(
        **shape,
        head_dim=head,
        query_pre_attn_scalar=head,
        sliding_window=4096,
        attn_logit_softcapping=50.0,
        final_logit_softcapping=30.0,
    )


def _tokenizer(family: Family, texts: Iterable[str], vocab: int) -> PreTrainedTokenizerFast:
    """Train a BPE tokenizer over the family's alphabet: bytes, or for Gemma-2 characters that fall back to bytes."""
    specials = SPECIALS[family]
    backend, alphabet, reserved = _by_characters() if family == "gemma2" else _by_bytes(family)
    trainer = trainers.BpeTrainer(
        vocab_size=vocab,
        special_tokens=[*specials.tokens(), *reserved],
        initial_alphabet=alphabet,
        limit_alphabet=max(len(alphabet), 64),
        show_progress=False,
    )
    backend.train_from_iterator(_with_template(texts), trainer)
    if specials.bos:
        bos = specials.bos
        backend.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A",
            pair=f"{bos} $A {bos}:1 $B:1",
            special_tokens=[(bos, backend.token_to_id(bos))],
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token=specials.bos,
        eos_token=specials.eos,
        pad_token=specials.pad,
        unk_token=specials.unk,
        padding_side="right",
        clean_up_tokenization_spaces=False,
        model_max_length=MAX_POSITIONS,
    )


def _by_bytes(family: Family) -> tuple[Tokenizer, list[str], list[str]]:
    """An untrained byte-level tokenizer, its alphabet, and its reserved tokens, as of Llama 3 and Qwen."""
    backend = Tokenizer(models.BPE())
    if family in ("qwen2", "qwen3"):
        backend.normalizer = normalizers.NFC()
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORDS), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    backend.decoder = decoders.ByteLevel()
    return backend, sorted(pre_tokenizers.ByteLevel.alphabet()), []


def _by_characters() -> tuple[Tokenizer, list[str], list[str]]:
    """The same with characters, as of Gemma-2: spaces become ▁, characters not in the alphabet become bytes."""
    backend = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    backend.normalizer = normalizers.Replace(" ", "▁")
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(r"▁?\p{L}+|▁+|\n+|[^▁\p{L}\n]+\n?"), "isolated")
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    return backend, ["▁"], [f"<0x{byte:02X}>" for byte in range(256)]


def _with_template(texts: Iterable[str]) -> Iterator[str]:
    """Each text followed by the pieces of the prompt template, so that these become few tokens."""
    for text in texts:
        yield text
        yield from TEMPLATES["published"]
