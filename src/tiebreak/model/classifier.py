"""A Hugging Face decoder with a three-class score head, run on packed documents.

Dimension letters: T tokens of the packed row, D documents, C classes.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor, nn
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging

from tiebreak.data.packing import Packed
from tiebreak.data.votes import LABELS
from tiebreak.errors import TiebreakError
from tiebreak.model import attention
from tiebreak.model.lora import HEAD, add_adapters, load_adapter
from tiebreak.recipe import Lora

HEAD_STD = 0.02
TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass
class Classifier:
    """A model, its tokenizer, and whether its score head was ever trained."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    head_trained: bool

    def logits(self, batch: Packed) -> Tensor:
        """Raw logits (D, C) in fp32, read at each document's last token."""
        hidden_TX = self.model.model(
            input_ids=batch.ids_T[None],
            position_ids=batch.positions_T[None],
            use_cache=False,
            layout=batch.layout,
        ).last_hidden_state[0]
        logits_DC: Tensor = self.model.score(hidden_TX[batch.ends_D].float())
        return logits_DC

    def trainable(self) -> dict[str, nn.Parameter]:
        return {name: p for name, p in self.model.named_parameters() if p.requires_grad}

    @property
    def device(self) -> str:
        return str(self.model.device)


def load(folder: Path, precision: str = "auto", device: str = "cpu", seed: int = 0) -> Classifier:
    """Load a decoder from a local folder, frozen, with a trainable score head in fp32.

    The head keeps its weights if the folder has any; otherwise it is drawn with `seed` and counts as never
    trained. Raises TiebreakError if the folder holds no model that transformers can read.
    """
    if not (folder / "config.json").is_file():
        raise TiebreakError(f"{folder} is no model folder: it has no config.json")
    labels = dict(enumerate(LABELS))
    try:
        with quiet():
            tokenizer = AutoTokenizer.from_pretrained(folder)
            model, info = AutoModelForSequenceClassification.from_pretrained(
                folder,
                num_labels=len(LABELS),
                id2label=labels,
                label2id={label: n for n, label in labels.items()},
                dtype=compute_type(precision, device),
                attn_implementation=attention.NAME,
                output_loading_info=True,
            )
    except (OSError, ValueError, KeyError) as error:
        raise TiebreakError(f"transformers cannot load a classifier from {folder}: {error}") from None
    if missing := set(info["missing_keys"]) - {"score.weight"}:
        raise TiebreakError(f"{folder} lacks weights, {sorted(missing)[:3]} among {len(missing)}")
    head_trained = "score.weight" not in info["missing_keys"]
    model.requires_grad_(False).to(device)
    model.config.pad_token_id = tokenizer.pad_token_id = padding_token(tokenizer)
    model.score.float().requires_grad_(True)
    if head_trained:
        model.score.weight.data.copy_(stored_head(folder))
    else:
        generator = torch.Generator().manual_seed(seed)
        head = torch.randn(model.score.weight.shape, generator=generator) * HEAD_STD
        model.score.weight.data.copy_(head)
    return Classifier(model, tokenizer, head_trained)


def stored_head(folder: Path) -> Tensor:
    """The score head as the folder stores it, in fp32; transformers rounds it to the type it loads in."""
    for file in folder.glob("*.safetensors"):
        with safe_open(file, framework="pt") as tensors:
            if HEAD in tensors.keys():  # noqa: SIM118
                head: Tensor = tensors.get_tensor(HEAD)
                return head.float()
    raise TiebreakError(f"{folder} holds no score head in its safetensors files")


@contextmanager
def quiet() -> Iterator[None]:
    """Without transformers' bars and its report of a missing score head, which is expected here."""
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def load_adapted(
    base: Path, lora: Lora, adapter: Path | None, precision: str, device: str, seed: int = 0
) -> Classifier:
    """A base with fresh adapters, or with those of an adapter folder."""
    classifier = load(base, precision, device, seed)
    add_adapters(classifier.model, lora, seed)
    if adapter is not None and load_adapter(classifier.model, adapter):
        classifier.head_trained = True
    return classifier


def compute_type(precision: str, device: str) -> torch.dtype:
    """The type of weights and activations. `auto`: bf16 on cards that have it, else fp16; fp32 on CPUs."""
    if precision == "auto":
        if device == "cpu":
            return torch.float32
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    return TYPES[precision]


def padding_token(tokenizer: PreTrainedTokenizerBase) -> int:
    """A token that no row ends with, for plain transformers, which pools the last token that is not padding.

    Llama has no padding token, and taking EOS would move the pooled token; any other special token will do.
    """
    if tokenizer.pad_token_id is not None and tokenizer.pad_token_id != tokenizer.eos_token_id:
        return int(tokenizer.pad_token_id)
    for token in sorted(tokenizer.added_tokens_decoder):
        if token not in (tokenizer.eos_token_id, tokenizer.bos_token_id):
            return int(token)
    if tokenizer.bos_token_id is None:
        raise TiebreakError(f"{tokenizer.name_or_path} has no special token besides EOS to pad with")
    return int(tokenizer.bos_token_id)
