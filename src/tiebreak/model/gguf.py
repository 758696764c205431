"""Conversion of GGUF files (llama.cpp's format) to model folders: weights dequantised once, with the tokenizer.

An extra: pip install 'tiebreak[gguf]'. transformers reads the weights. It silently ignores some metadata, such as a
scaling of rotary frequencies, and confuses BOS and EOS in Llama's tokenizers: so files that it would convert to a
different model are refused here, and the tokenizer is built here.
"""

from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from tiebreak.errors import TiebreakError
from tiebreak.model import config_facts
from tiebreak.output import replacing_folder

if TYPE_CHECKING:
    from gguf import GGMLQuantizationType
    from transformers import PreTrainedConfig, PreTrainedTokenizerFast

ARCHITECTURES = ("llama", "qwen2", "qwen3")
"""The architectures that are known to be converted without a difference."""
PRE_TOKENIZERS = ("gpt-2", "llama-bpe", "qwen2", "smollm")
"""The known pre-tokenizers of BPE, by their names in tokenizer.ggml.pre."""

_OWN = (
    "attention.head_count",
    "attention.layer_norm_rms_epsilon",
    "block_count",
    "context_length",
    "embedding_length",
    "feed_forward_length",
)
"""Required fields of a decoder; further ones have defaults."""
_LAYER = (
    "attn_norm.weight",
    *(f"attn_{part}.weight" for part in ("q", "k", "v", "output")),
    "ffn_norm.weight",
    *(f"ffn_{part}.weight" for part in ("gate", "up", "down")),
)
_MORE = {
    "qwen2": tuple(f"attn_{part}.bias" for part in "qkv"),
    "qwen3": tuple(f"attn_{part}_norm.weight" for part in "qk"),
}
"""The weights of a layer, and those that one architecture alone has."""
AGAIN = "copy or download it again"

_CONTROL, _USER_DEFINED = 3, 4
_REMEDY = "name the model's own folder or hub id instead"


def convert(file: Path, folder: Path) -> None:
    """Convert a file to a model folder in bf16, written atomically.

    Needs memory for about four bytes per weight. Raises TiebreakError where the extra is missing, the file is damaged,
    or its model cannot be converted without a difference.
    """
    import torch
    from safetensors.torch import save_file
    from transformers import AutoModelForCausalLM

    from tiebreak.model.classifier import quiet

    source = _Model(file)
    tokenizer, config = source.tokenizer(), source.config()
    with (
        _readable(file),
        quiet(),
        redirect_stderr(StringIO()),  # a progress bar that transformers has no option to disable
        TemporaryDirectory() as folder_alone,
    ):  # without other files that transformers would read
        (Path(folder_alone) / "model.gguf").symlink_to(file.resolve())
        model, report = AutoModelForCausalLM.from_pretrained(
            folder_alone,
            gguf_file="model.gguf",
            config=config,
            dtype=torch.bfloat16,
            trust_remote_code=False,
            output_loading_info=True,
        )
    weights = {name: weight.detach().contiguous() for name, weight in model.named_parameters()}
    read = weights.keys() - report["missing_keys"]
    if not len(read) == len(weights) == len(source.tensors):
        raise TiebreakError(
            f"{file} holds {len(source.tensors)} weights, of which transformers takes {len(read)} for a model of "
            f"{len(weights)}; {_REMEDY}"
        )
    with replacing_folder(folder) as partial:
        config.save_pretrained(partial)
        tokenizer.save_pretrained(partial)
        save_file(weights, partial / "model.safetensors", metadata={"format": "pt"})


def require(file: Path, mend: str = AGAIN) -> None:
    """Validate all of a file but its weights. Raises as `convert` does, but before any work.

    mend: the remedy named in the error.
    """
    config_facts.require(file, _Model(file, mend).config().to_dict(), {}, mend)


def config(file: Path) -> dict[str, Any]:
    """The contents of the converted folder's config.json. Raises as `convert` does."""
    return dict(_Model(file).config().to_dict())


def tokenizer(file: Path) -> "PreTrainedTokenizerFast":
    """The file's tokenizer. Raises as `convert` does."""
    return _Model(file).tokenizer()


class _Model:
    """A GGUF file without its weights. Raises as `convert` does."""

    def __init__(self, file: Path, mend: str = AGAIN) -> None:
        from tiebreak.model import gguf_header

        if missing := [name for name in ("gguf", "accelerate") if find_spec(name) is None]:
            raise TiebreakError(f"GGUF files need {' and '.join(missing)}: pip install 'tiebreak[gguf]'")
        self.file = file
        with _readable(file, mend):
            header = gguf_header.read(file)
        self._fields, self.tensors = header.fields, header.tensors
        self.architecture: str = self._fields.get("general.architecture", "")
        if self.architecture not in ARCHITECTURES:
            raise TiebreakError(
                f"{file} holds a model of the architecture {self.architecture!r}; {', '.join(ARCHITECTURES)} are "
                f"read as GGUF; {_REMEDY}"
            )
        scaling = self._fields.get(f"{self.architecture}.rope.scaling.type", "none")
        if scaling != "none" or any(name.startswith("rope_") for name in self.tensors):
            raise TiebreakError(
                f"{file} scales its rotary frequencies (as Llama 3.1 does), which transformers drops; {_REMEDY}"
            )
        kind = self._fields.get("tokenizer.ggml.model")
        self._pre_tokenizer: str = self._fields.get("tokenizer.ggml.pre", "")
        if kind != "gpt2" or self._pre_tokenizer not in PRE_TOKENIZERS:
            raise TiebreakError(
                f"{file} has a tokenizer ({kind}, {self._pre_tokenizer}) that is not known to be read right; {_REMEDY}"
            )
        with _readable(file, mend):  # values may be of any type
            self._require_fields()
            self._require_weights()

    def _require_fields(self) -> None:
        """Require the fields that `config` and `tokenizer` read. Raises TiebreakError if any is missing."""
        needed = [f"{self.architecture}.{key}" for key in _OWN]
        needed += [f"tokenizer.ggml.{key}" for key in ("tokens", "token_type", "merges")]
        if missing := [key for key in needed if key not in self._fields]:
            raise TiebreakError(f"{self.file} does not say {', '.join(missing)}; {_REMEDY}")

    def _require_weights(self) -> None:
        """Require the weights of the architecture in readable types. Raises TiebreakError otherwise."""
        layers = self._fields[f"{self.architecture}.block_count"]
        parts = _LAYER + _MORE.get(self.architecture, ())
        wanted = {"token_embd.weight", "output_norm.weight"}
        # no more of them than the file has: its count of layers may be anything
        wanted |= {f"blk.{n}.{part}" for n in range(min(layers, len(self.tensors))) for part in parts}
        if differing := sorted((set(self.tensors) - {"output.weight"}) ^ wanted):
            raise TiebreakError(
                f"{self.file} has not the weights of a model of the architecture {self.architecture} with {layers} "
                f"layers: {', '.join(differing[:3])} among {len(differing)} missing or too many; {_REMEDY}"
            )
        for kind in sorted(set(self.tensors.values())):
            if not _is_read(kind):
                name = next(name for name in self.tensors if self.tensors[name] == kind)
                raise TiebreakError(
                    f"{self.file} holds {name} as {kind.name}, which the package gguf does not read; {_REMEDY}"
                )

    def config(self) -> "PreTrainedConfig":
        """The decoder's configuration."""
        from transformers import AutoConfig

        fields, own = self._fields, f"{self.architecture}."
        with _readable(self.file):
            heads, hidden = fields[own + "attention.head_count"], fields[own + "embedding_length"]
            found: PreTrainedConfig = AutoConfig.for_model(
                self.architecture,
                architectures=[f"{self.architecture.capitalize()}ForCausalLM"],
                dtype="bfloat16",
                vocab_size=len(fields["tokenizer.ggml.tokens"]),
                hidden_size=hidden,
                intermediate_size=fields[own + "feed_forward_length"],
                num_hidden_layers=fields[own + "block_count"],
                num_attention_heads=heads,
                num_key_value_heads=fields.get(own + "attention.head_count_kv", heads),
                head_dim=fields.get(own + "attention.key_length", hidden // heads),
                max_position_embeddings=fields[own + "context_length"],
                rms_norm_eps=fields[own + "attention.layer_norm_rms_epsilon"],
                rope_parameters={
                    "rope_type": "default",
                    "rope_theta": fields.get(own + "rope.freq_base", 10_000.0),
                },
                tie_word_embeddings="output.weight" not in self.tensors,
                **{f"{role}_token_id": n for role, n in self._specials().items()},
            )
        return found

    def _specials(self) -> dict[str, int]:
        """The ids of the special tokens that the file names, by role."""
        names = {"bos": "bos", "eos": "eos", "pad": "padding", "unk": "unknown"}
        ids = {role: self._fields.get(f"tokenizer.ggml.{name}_token_id") for role, name in names.items()}
        return {role: n for role, n in ids.items() if n is not None}

    def tokenizer(self) -> "PreTrainedTokenizerFast":
        """Byte-level BPE from vocabulary and merges, with the special tokens that the file names."""
        from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, processors
        from transformers import PreTrainedTokenizerFast

        fields, pre_tokenizer = self._fields, self._pre_tokenizer
        with _readable(self.file):
            tokens, kinds = fields["tokenizer.ggml.tokens"], fields["tokenizer.ggml.token_type"]
            merges = [tuple(merge.split(" ")) for merge in fields["tokenizer.ggml.merges"]]
            vocabulary = {token: n for n, token in enumerate(tokens)}
            backend = Tokenizer(models.BPE(vocabulary, merges, ignore_merges=pre_tokenizer == "llama-bpe"))
            if pre_tokenizer == "qwen2":
                backend.normalizer = normalizers.NFC()
            backend.pre_tokenizer = _pre_tokenizer(pre_tokenizer)
            backend.decoder = decoders.ByteLevel()
            backend.add_tokens(
                [
                    AddedToken(token, special=kind == _CONTROL, normalized=False)
                    for token, kind in zip(tokens, kinds, strict=True)
                    if kind in (_CONTROL, _USER_DEFINED)
                ]
            )
            ids = self._specials()
            if "bos" in ids and fields.get("tokenizer.ggml.add_bos_token", pre_tokenizer == "llama-bpe"):
                bos = tokens[ids["bos"]]
                backend.post_processor = processors.TemplateProcessing(
                    single=f"{bos} $A", pair=f"{bos} $A {bos}:1 $B:1", special_tokens=[(bos, ids["bos"])]
                )
            return PreTrainedTokenizerFast(
                tokenizer_object=backend,
                padding_side="right",
                clean_up_tokenization_spaces=False,
                model_max_length=fields[f"{self.architecture}.context_length"],
                **{f"{role}_token": tokens[n] for role, n in ids.items()},
            )


def _pre_tokenizer(name: str) -> Any:
    """The pre-tokenizer of one of `PRE_TOKENIZERS` (patterns from llama.cpp's llm_tokenizer_bpe)."""
    from tokenizers import Regex, pre_tokenizers

    if name in ("gpt-2", "smollm"):
        by_words = pre_tokenizers.ByteLevel(add_prefix_space=False)
        digits = [pre_tokenizers.Digits(individual_digits=True)] if name == "smollm" else []
        return pre_tokenizers.Sequence([*digits, by_words])
    number = r"\p{N}{1,3}" if name == "llama-bpe" else r"\p{N}"
    pattern = (
        rf"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|{number}"
        r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    )
    words = pre_tokenizers.Split(Regex(pattern), "isolated")
    return pre_tokenizers.Sequence([words, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def _is_read(kind: "GGMLQuantizationType") -> bool:
    """True if the library dequantises a type, tried on one block of zeros."""
    import numpy as np
    from gguf import GGML_QUANT_SIZES, dequantize

    _, size = GGML_QUANT_SIZES[kind]
    try:
        dequantize(np.zeros((1, size), dtype=np.uint8), kind)
    except NotImplementedError:
        return False
    return True


@contextmanager
def _readable(file: Path, mend: str = AGAIN) -> Iterator[None]:
    """Whatever reading a file of others' making throws, said clearly; tokenizers raises bare Exceptions."""
    try:
        yield
    except TiebreakError:
        raise
    except Exception as error:
        why = str(error) or type(error).__name__
        raise TiebreakError(f"cannot read {file} as GGUF: {why}; {mend}") from None
