"""A Hugging Face decoder with a three-class score head, run on packed documents.

Dimension letters: T tokens of the packed row, D documents, C classes.
"""

import logging
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor, nn
from transformers.utils import logging as transformers_logging

from tiebreak import distributed
from tiebreak.errors import TiebreakError
from tiebreak.hardware.gpu_specs import CPU, rank_error
from tiebreak.model import attention, families, streaming_loader, tokenizer_facts
from tiebreak.model.decoders import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    without_compiler,
)
from tiebreak.model.fast import compile, graphs
from tiebreak.model.fast.fsdp import shard
from tiebreak.model.fast.fuse import fuse
from tiebreak.model.fast.fused_linears import fused_linears
from tiebreak.model.fast.graphs import Graphs
from tiebreak.model.fast.last_layer_skip import skip_unused_positions
from tiebreak.model.intact import quantised
from tiebreak.model.lora import HEAD, add_adapters, load_adapter, uncovered
from tiebreak.model.precision import TYPES, Precision, announce, choose, device_card
from tiebreak.recipe.models import Lora
from tiebreak.tokens.packing import Packed, Tiles
from tiebreak.votes.schema import LABELS

log = logging.getLogger(__name__)

HEAD_STD = 0.02


@dataclass
class Classifier:
    """A decoder with a score head, and its tokenizer.

    head_trained: whether the score head was ever trained. fixed: true if the model runs on kernels that need batches of
    fixed shapes (`tokens.packing.batches`). checked: true once those kernels were compared with plain attention
    (`model.fast.kernel_check`). parameters: those of the layers' matrices. The model's layers must be fused before, and its last one is changed in place
    (`model.fast.last_layer_skip`).
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    head_trained: bool
    fixed: bool = False
    checked: bool = False

    def __post_init__(self) -> None:
        self.skips_last_layer = skip_unused_positions(self.model)
        self._fused_linears = fused_linears(self.model)
        self._most_positions = families.most_positions(self.model.config.to_dict())
        self.parameters = _in_matrices(self.model)
        self._graphs = Graphs(self.logits_of_tensors)

    def logits(self, batch: Packed) -> Tensor:
        """The raw logits (D, C) in fp32 at each document's last token.

        Raises TiebreakError for a document longer than the model has positions.
        """
        state = self.prepare(batch)
        has_tiles = isinstance(
            batch.layout, Tiles
        )  # plain attention, which kernels are compared with, has none
        if has_tiles and self.is_graphed(len(batch.ids_T)) and not torch.is_grad_enabled():
            return self._graphs(*batch.tensors(), state=state)[: len(batch.spans)]
        return self._logits(batch, len(batch.spans))

    def prepare(self, batch: Packed) -> bool:
        """Prepare a forward of a batch; returns true if a sliding window hides tokens in it.

        Raises TiebreakError for a document longer than the model has positions.
        """
        longest = max(map(len, batch.spans))
        if self._most_positions and longest > self._most_positions:
            raise families.too_long(longest, self._most_positions)
        for stack in self._fused_linears:
            stack.prepare()
        return self.fixed and attention.disable_unused_windows(self.model, longest)

    def is_graphed(self, tokens: int) -> bool:
        """True if forwards of so many tokens are recorded as CUDA graphs."""
        return (
            self.fixed
            and self.on_gpu
            and self.parameters * tokens <= graphs.MOST_WORK
            and not distributed.is_sharded()
            and not any(getattr(layer, "gradient_checkpointing", False) for layer in self.model.model.layers)
        )

    def logits_of_tensors(self, *tensors: Tensor) -> Tensor:
        """The raw logits of a prepared batch, given as `Packed.tensors`, those of padded documents among them."""
        return self._logits(Packed.of_tensors(*tensors), len(tensors[2]))

    def _logits(self, batch: Packed, documents: int) -> Tensor:
        hidden_TX = self.model.model(
            **self._inputs(batch),
            position_ids=batch.positions_T[None],
            use_cache=False,
            layout=batch.layout,
            ends_D=batch.ends_D if self.skips_last_layer else None,
        ).last_hidden_state[0]
        hidden_DX = hidden_TX if self.skips_last_layer else hidden_TX[batch.ends_D]
        logits_DC: Tensor = self.model.score(hidden_DX[:documents].float())
        return logits_DC

    def _inputs(self, batch: Packed) -> dict[str, Tensor]:
        if not self.fixed:
            return {"input_ids": batch.ids_T[None]}
        embedded_1TX = self.model.model.embed_tokens(batch.ids_T[None])
        # so that the first layer shares the compiled code of the others
        return {"inputs_embeds": embedded_1TX.requires_grad_(torch.is_grad_enabled())}

    def trainable(self) -> dict[str, nn.Parameter]:
        return {name: p for name, p in self.model.named_parameters() if p.requires_grad}

    @property
    def device(self) -> str:
        return str(self.model.device)

    @property
    def is_plain_fp16(self) -> bool:
        """True for a model in fp16 without the kernels, as on cards that have no bf16."""
        return self.model.dtype == torch.float16 and not self.fixed

    @property
    def on_gpu(self) -> bool:
        return str(self.model.device.type) == "cuda"


def _in_matrices(model: PreTrainedModel) -> int:
    """The parameters of the layers' matrices, without those of adapters on fused layers."""
    if fused := fused_linears(model):
        return sum(stack.inputs * sum(stack.sizes) for stack in fused)
    return sum(p.numel() for p in model.model.layers.parameters() if p.ndim > 1)


def load(folder: Path, precision: str = "auto", device: str = "cpu", seed: int = 0) -> Classifier:
    """Load a decoder from a local folder, frozen, with a trainable score head in fp32.

    The head keeps its weights if the folder has any; otherwise it is initialised with `seed` and counts as
    untrained. precision auto means 16 bits on a GPU, for any size.
    Raises TiebreakError if the folder holds no model that transformers can read.
    """
    card = device_card(device)
    chosen = choose(precision, card, 0)
    with _readable_errors(folder):
        config = _config(folder)
    _require_agreement(chosen, compile.supports_kernels(card, chosen.dtype, config))
    with _readable_errors(folder):
        if chosen.kind != "dense":
            model, has_head = streaming_loader.load(folder, config, chosen.dtype, device, chosen.kind)
        elif device != "cpu" and streaming_loader.has_plain_names(folder, config):
            model, has_head = streaming_loader.load(folder, config, chosen.dtype, device)
        else:
            model, has_head = _load_with_transformers(folder, config, chosen.dtype)
            model.to(device)
    return _classifier(folder, model, has_head, device, seed)


def require_loadable(folder: Path) -> None:
    """Raise TiebreakError for a folder that could not be loaded, without reading its weights."""
    with _readable_errors(folder):
        config = _config(folder)
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    tokenizer_facts.prepare(tokenizer, config.vocab_size, str(folder))


def stored_precision(folder: Path, device: str) -> str:
    """The precision of a folder's weights by its config.json; auto where it has none or the device lacks it."""
    stored = {dtype: name for name, dtype in TYPES.items()}.get(
        AutoConfig.from_pretrained(folder, trust_remote_code=False).dtype, "auto"
    )
    card = device_card(device)
    return "auto" if stored == "bf16" and card != CPU and not card.has_bf16 else stored


def load_adapted(
    base: Path, lora: Lora, adapter: Path | None, precision: str, device: str, seed: int = 0
) -> Classifier:
    """Load a base with new adapters, or with those of an adapter folder; frozen weights in the recipe's precision.

    Raises TiebreakError for a folder without a model, and for a precision that the device lacks.
    """
    with _readable_errors(base):
        config = _config(base)
        card = device_card(device)
        # the size of a model is needed for `auto` on a GPU only
        size = streaming_loader.count_parameters(config) if precision == "auto" and card != CPU else 0
        chosen = choose(precision, card, size)
    if error_text := rank_error(chosen.kind, card, lora.rank):
        raise TiebreakError(f"{base.name} in FP8: {error_text}")
    announce(base.name, chosen)
    has_kernels = compile.supports_kernels(card, chosen.dtype, config)
    _require_agreement(chosen, has_kernels)
    if chosen.kind == "dense" and not has_kernels:
        classifier = load(base, precision, device, seed)
        add_adapters(classifier.model, lora, seed)
    else:
        at = "cpu" if distributed.is_sharded() else device  # unsharded, it may exceed a card's memory
        with _readable_errors(base):
            if chosen.kind != "dense" or streaming_loader.has_plain_names(base, config):
                encoder = at if chosen.kind == "dense" else device
                model, has_head = streaming_loader.load(
                    base, config, chosen.dtype, at, chosen.kind, lora, seed, encoder
                )
            else:
                model, has_head = _load_with_transformers(base, config, chosen.dtype)
                fuse(model.to(at), chosen.kind, chosen.dtype, at, lora, seed)
        classifier = _classifier(base, model, has_head, device, seed)
    if distributed.is_sharded():
        shard(classifier.model, device)
    if bare := uncovered(classifier.model):
        log.info("%s: adapters on all linear layers, none on %s", base.name, ", ".join(bare))
    if adapter is not None and load_adapter(classifier.model, adapter):
        classifier.head_trained = True
    return classifier


def _require_agreement(chosen: Precision, has_kernels: bool) -> None:
    """Raise TiebreakError if the processes of a task would store or compute a model in different formats."""
    ours = f"{chosen.kind} {chosen.dtype} {has_kernels}"
    if not distributed.all_equal(zlib.crc32(ours.encode())):
        raise TiebreakError(
            "the cards of this task are of different kinds, on which a model is held or computed differently (here "
            f"in {chosen.kind}, {str(chosen.dtype).removeprefix('torch.')}); ask for one kind, with SBATCH_CONSTRAINT "
            "or SBATCH_GRES, or name a precision that both have"
        )


def _classifier(folder: Path, model: PreTrainedModel, has_head: bool, device: str, seed: int) -> Classifier:
    """Build the classifier of a loaded decoder: tokenizer, score head, and on a GPU compiled layers."""
    with _readable_errors(folder):
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    model.requires_grad_(False)
    for stack in fused_linears(model):
        stack.unfreeze_adapters()
    model.config.pad_token_id = tokenizer_facts.prepare(tokenizer, model.config.vocab_size, str(folder))
    # a head of three classes may be that of another task, such as entailment
    has_head = (
        has_head
        and tuple(AutoConfig.from_pretrained(folder, trust_remote_code=False).id2label.values()) == LABELS
    )
    if has_head:
        head = stored_head(folder)
    else:
        generator = torch.Generator().manual_seed(seed)
        head = torch.randn(model.score.weight.shape, generator=generator) * HEAD_STD
    model.score.weight = nn.Parameter(head.to(device))
    return ready(Classifier(model, tokenizer, has_head), folder, device)


def ready(classifier: Classifier, folder: Path, device: str) -> Classifier:
    """A classifier that was loaded, checked if its family is not verified, and compiled where kernels are supported."""
    from tiebreak.model import weights_check

    weights_check.require(classifier, folder)
    classifier.fixed = compile.compile_if_supported(classifier.model, device)
    return classifier


def _config(folder: Path) -> PreTrainedConfig:
    """The folder's configuration with the classes of votes."""
    labels = dict(enumerate(LABELS))
    config = AutoConfig.from_pretrained(
        folder,
        num_labels=len(LABELS),
        id2label=labels,
        label2id={label: n for n, label in labels.items()},
        trust_remote_code=False,
    )
    if scheme := getattr(config, "quantization_config", None):
        raise quantised(folder, scheme)
    families.require(str(folder), config.to_dict())
    if not 0 <= (config.pad_token_id or 0) < config.vocab_size:
        config.pad_token_id = None  # torch makes no embeddings with it; the tokenizer's is set later
    if problem := streaming_loader.misfit(folder, config):  # transformers would draw such weights anew
        raise TiebreakError(f"{folder} does not fit together: {problem}")
    return config


@without_compiler()
def _load_with_transformers(
    folder: Path, config: PreTrainedConfig, dtype: torch.dtype
) -> tuple[PreTrainedModel, bool]:
    """Load the decoder on the CPU by transformers, and return with it whether the folder has a score head."""
    with quiet():
        model, info = AutoModelForSequenceClassification.from_pretrained(
            folder,
            config=config,
            dtype=dtype,
            attn_implementation=attention.NAME,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
            use_safetensors=True,
            trust_remote_code=False,
        )
    # a head of another shape is that of another task, such as a reward model
    missing = {*info["missing_keys"], *(key for key, *_ in info["mismatched_keys"])}
    if missing_decoder_weights := missing - {HEAD}:
        raise streaming_loader.lacking(folder, missing_decoder_weights, set(), None)
    return model, HEAD not in missing


@contextmanager
def _readable_errors(folder: Path) -> Iterator[None]:
    if not (folder / "config.json").is_file():
        raise TiebreakError(f"{folder} is no model folder: it has no config.json")
    try:
        yield
    except TiebreakError:
        raise
    except Exception as error:  # its classes raise whatever they stumble over
        reason = f"{type(error).__name__}: {' '.join(str(error).split()):.300}"
        raise TiebreakError(f"transformers cannot load a classifier from {folder}: {reason}") from None


def stored_head(folder: Path) -> Tensor:
    """The score head as stored in the folder, in fp32; transformers rounds it to the type of the model."""
    for file in folder.glob("*.safetensors"):
        with safe_open(file, framework="pt") as tensors:
            if HEAD in tensors.keys():  # noqa: SIM118
                head: Tensor = tensors.get_tensor(HEAD)
                return head.float()
    raise TiebreakError(f"{folder} holds no score head in its safetensors files")


@contextmanager
def quiet() -> Iterator[None]:
    """Suppress transformers' progress bars and its report of a missing score head, which is expected here."""
    level, bars = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(level)
        if bars:
            transformers_logging.enable_progress_bar()


def compute_type(precision: str, device: str) -> torch.dtype:
    """The type of weights and activations. `auto`: bf16 on cards that support it, else fp16; fp32 on CPUs."""
    return choose(precision, device_card(device), 0).dtype
