"""A Hugging Face decoder with a three-class score head, run on packed documents.

Dimension letters: T tokens of the packed row, D documents, C classes.
"""

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging

from tiebreak import distributed
from tiebreak.cards import CPU, wrong_rank
from tiebreak.data.packing import Packed
from tiebreak.data.votes import LABELS
from tiebreak.errors import TiebreakError
from tiebreak.model import attention, gpu, stream
from tiebreak.model.ends import read_at_ends
from tiebreak.model.fuse import fuse
from tiebreak.model.intact import quantised
from tiebreak.model.lora import HEAD, add_adapters, load_adapter
from tiebreak.model.precision import TYPES, Precision, announce, choose
from tiebreak.model.precision import card as device_card
from tiebreak.model.shard import shard
from tiebreak.model.stack import stacks
from tiebreak.recipe import Lora

HEAD_STD = 0.02


@dataclass
class Classifier:
    """A model, its tokenizer, and whether its score head was ever trained.

    fixed: it runs on kernels that want batches of fixed shapes (`data.packing.batches`).
    checked: those kernels were compared with plain attention (`model.check`).
    The model's layers must be fused before, and its last one is changed in place (`model.ends`).
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    head_trained: bool
    fixed: bool = False
    checked: bool = False

    def __post_init__(self) -> None:
        self.at_ends = read_at_ends(self.model)
        self._stacks = stacks(self.model)

    def logits(self, batch: Packed) -> Tensor:
        """Raw logits (D, C) in fp32, read at each document's last token."""
        for stack in self._stacks:
            stack.prepare()
        hidden_TX = self.model.model(
            **self._inputs(batch),
            position_ids=batch.positions_T[None],
            use_cache=False,
            layout=batch.layout,
            ends_D=batch.ends_D if self.at_ends else None,
        ).last_hidden_state[0]
        hidden_DX = hidden_TX if self.at_ends else hidden_TX[batch.ends_D]
        logits_DC: Tensor = self.model.score(hidden_DX[: len(batch.spans)].float())
        return logits_DC

    def _inputs(self, batch: Packed) -> dict[str, Tensor]:
        if not self.fixed:
            return {"input_ids": batch.ids_T[None]}
        attention.open_windows(self.model, max(map(len, batch.spans)))
        embedded_1TX = self.model.model.embed_tokens(batch.ids_T[None])
        # so that the first layer's compiled code is that of the others
        return {"inputs_embeds": embedded_1TX.requires_grad_(torch.is_grad_enabled())}

    def trainable(self) -> dict[str, nn.Parameter]:
        return {name: p for name, p in self.model.named_parameters() if p.requires_grad}

    @property
    def device(self) -> str:
        return str(self.model.device)

    @property
    def on_gpu(self) -> bool:
        return str(self.model.device.type) == "cuda"


def load(folder: Path, precision: str = "auto", device: str = "cpu", seed: int = 0) -> Classifier:
    """Load a decoder from a local folder, frozen, with a trainable score head in fp32.

    The head keeps its weights if the folder has any; otherwise it is drawn with `seed` and counts as never
    trained. precision auto means 16 bits on a GPU, whatever the size.
    Raises TiebreakError if the folder holds no model that transformers can read.
    """
    card = device_card(device)
    chosen = choose(precision, card, 0)
    with _clear_errors(folder):
        config = _config(folder)
    _agree(chosen, gpu.suits(card, chosen.dtype, config))
    with _clear_errors(folder):
        if chosen.kind != "dense":
            model, has_head = stream.load(folder, config, chosen.dtype, device, chosen.kind)
        elif device != "cpu" and stream.covers(folder, config):
            model, has_head = stream.load(folder, config, chosen.dtype, device)
        else:
            model, has_head = _by_transformers(folder, config, chosen.dtype)
            model.to(device)
    return _classifier(folder, model, has_head, device, seed)


def stored_precision(folder: Path, device: str) -> str:
    """The precision of a folder's own weights, by its config.json; auto where it says none or the device lacks it."""
    stored = {dtype: name for name, dtype in TYPES.items()}.get(
        AutoConfig.from_pretrained(folder).dtype, "auto"
    )
    card = device_card(device)
    return "auto" if stored == "bf16" and card != CPU and not card.has_bf16 else stored


def load_adapted(
    base: Path, lora: Lora, adapter: Path | None, precision: str, device: str, seed: int = 0
) -> Classifier:
    """A base with fresh adapters, or with those of an adapter folder; frozen weights in the recipe's precision.

    Raises TiebreakError for a folder without a model, and for a precision that the device lacks.
    """
    with _clear_errors(base):
        config = _config(base)
        card = device_card(device)
        # the size of a model matters for `auto` on a GPU alone
        size = stream.parameters(config) if precision == "auto" and card != CPU else 0
        chosen = choose(precision, card, size)
    if why := wrong_rank(chosen.kind, card, lora.rank):
        raise TiebreakError(f"{base.name} in FP8: {why}")
    announce(base.name, chosen)
    suits = gpu.suits(card, chosen.dtype, config)
    _agree(chosen, suits)
    if chosen.kind == "dense" and not suits:
        classifier = load(base, precision, device, seed)
        add_adapters(classifier.model, lora, seed)
    else:
        at = "cpu" if distributed.shards() else device  # whole, it may be more than a card holds
        with _clear_errors(base):
            if chosen.kind != "dense" or stream.covers(base, config):
                encoder = at if chosen.kind == "dense" else device
                model, has_head = stream.load(
                    base, config, chosen.dtype, at, chosen.kind, lora, seed, encoder
                )
            else:
                model, has_head = _by_transformers(base, config, chosen.dtype)
                fuse(model.to(at), chosen.kind, chosen.dtype, at, lora, seed)
        classifier = _classifier(base, model, has_head, device, seed)
    if distributed.shards():
        shard(classifier.model, device)
    if adapter is not None and load_adapter(classifier.model, adapter):
        classifier.head_trained = True
    return classifier


def _agree(chosen: Precision, suits: bool) -> None:
    """Raises TiebreakError where the processes of a task would hold or compute a model in different ways."""
    ours = f"{chosen.kind} {chosen.dtype} {suits}"
    if not distributed.alike(zlib.crc32(ours.encode())):
        raise TiebreakError(
            "the cards of this task are of different kinds, on which a model is held or computed differently (here "
            f"in {chosen.kind}, {str(chosen.dtype).removeprefix('torch.')}); ask for one kind, with SBATCH_CONSTRAINT "
            "or SBATCH_GRES, or name a precision that both have"
        )


def _classifier(folder: Path, model: PreTrainedModel, has_head: bool, device: str, seed: int) -> Classifier:
    """Tokenizer and score head for a loaded decoder; on a GPU, compiled layers."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model.requires_grad_(False)
    for stack in stacks(model):
        stack.release_adapters()
    model.config.pad_token_id = tokenizer.pad_token_id = padding_token(tokenizer)
    # a head of three classes may be that of another task, such as entailment
    has_head = has_head and tuple(AutoConfig.from_pretrained(folder).id2label.values()) == LABELS
    if has_head:
        head = stored_head(folder)
    else:
        generator = torch.Generator().manual_seed(seed)
        head = torch.randn(model.score.weight.shape, generator=generator) * HEAD_STD
    model.score.weight = nn.Parameter(head.to(device))
    return Classifier(model, tokenizer, has_head, fixed=gpu.speed_up(model, device))


def _config(folder: Path) -> PreTrainedConfig:
    """The folder's configuration with our classes and attention."""
    labels = dict(enumerate(LABELS))
    config = AutoConfig.from_pretrained(
        folder, num_labels=len(LABELS), id2label=labels, label2id={label: n for n, label in labels.items()}
    )
    if scheme := getattr(config, "quantization_config", None):
        raise quantised(folder, scheme)
    return config


def _by_transformers(
    folder: Path, config: PreTrainedConfig, dtype: torch.dtype
) -> tuple[PreTrainedModel, bool]:
    """The decoder on the CPU, and whether the folder has a score head."""
    with quiet():
        model, info = AutoModelForSequenceClassification.from_pretrained(
            folder,
            config=config,
            dtype=dtype,
            attn_implementation=attention.NAME,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
        )
    # a head of another shape is that of a model of something else, such as a reward
    missing = {*info["missing_keys"], *(key for key, *_ in info["mismatched_keys"])}
    if lacking := missing - {HEAD}:
        raise TiebreakError(f"{folder} lacks weights, {sorted(lacking)[:3]} among {len(lacking)}")
    return model, HEAD not in missing


@contextmanager
def _clear_errors(folder: Path) -> Iterator[None]:
    if not (folder / "config.json").is_file():
        raise TiebreakError(f"{folder} is no model folder: it has no config.json")
    try:
        yield
    except (OSError, ValueError, KeyError) as error:
        raise TiebreakError(f"transformers cannot load a classifier from {folder}: {error}") from None


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


def compute_type(precision: str, device: str) -> torch.dtype:
    """The type of weights and activations. `auto`: bf16 on cards that have it, else fp16; fp32 on CPUs."""
    return choose(precision, device_card(device), 0).dtype


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
