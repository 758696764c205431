"""8-bit quantization of a classifier through llmcompressor: GPTQ, or round-to-nearest for comparison.

GPTQ (Frantar et al. 2022, arXiv:2210.17323) rounds a layer's columns one after the other and lets the columns
still to come make up for each error, as the layer's inputs on calibration rows see it. Weights become
symmetric 8-bit integers with one scale for each row and group of inputs; activations stay as they are.
Embeddings, norms and the score head are left alone, the head in fp32.

The decoder is calibrated layer by layer, each on the outputs of the quantised layers before it. The model
waits in host memory at its stored size; the accelerator, where there is one, holds a single layer, its
Hessians (4 I^2 bytes for I inputs) and a few working copies: by arithmetic, about 6 GB for a 9B.
"""

import os

# read at import: llmcompressor otherwise logs to stdout; its LOG_DISABLED breaks its own GPTQ
os.environ.setdefault("LLM_COMPRESSOR_LOG_LEVEL", "CRITICAL")

import logging
import math
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from io import StringIO
from itertools import count
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.utils.data import DataLoader
from transformers import AutoModelForSequenceClassification, AutoTokenizer, PreTrainedModel

from tiebreak.errors import TiebreakError
from tiebreak.model import tokenizer_facts
from tiebreak.model.classifier import stored_head
from tiebreak.model.merge import prefer_eager
from tiebreak.votes.schema import LABELS

try:
    from compressed_tensors import ModelCompressor
    from compressed_tensors.offload import remove_dispatch
    from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme
    from llmcompressor.args import DatasetArguments
    from llmcompressor.core import create_session
    from llmcompressor.modifiers.gptq import GPTQModifier
    from llmcompressor.modifiers.quantization import QuantizationModifier
    from llmcompressor.pipelines import CalibrationPipeline
except ImportError as error:
    raise TiebreakError(
        f"quantising needs llmcompressor ({error}): pip install 'tiebreak[quantize]'"
    ) from None

Method = Literal["gptq", "rtn"]
OnLayer = Callable[[int, int], None]
SMALLEST_GROUP = 32


@dataclass(frozen=True)
class QuantizationResult:
    """Result of a quantization. groups: number of layers by group size. rounded: layers whose Hessian could not be
    inverted, so that they were rounded to nearest. Bytes are those of the weight files.
    """

    groups: dict[int, int]
    rounded: tuple[str, ...]
    bytes_before: int
    bytes_after: int


def quantize(
    source: Path,
    target: Path,
    documents: Sequence[NDArray[np.int32]],
    group: int = 128,
    method: Method = "gptq",
    on_layer: OnLayer = lambda done, total: None,
) -> QuantizationResult:
    """Write the classifier in `source` to `target`, quantised, with its tokenizer; the target must be missing or empty.

    documents: token ids of calibration rows, each (T,); they run one at a time, so that no padding enters the
    Hessians. Used by GPTQ alone. group: inputs that share a scale; see `group_size` for widths it does not
    divide. on_layer(done, total) is called after each decoder layer and may raise to stop.
    """
    on_layer = _with_stderr(on_layer)
    with _silenced():
        model = _load(source)
        sizes = group_sizes(model.model, group)
        modifier = _modifier(model, method, sizes, on_layer)
        rounded = _calibrate(model.model, modifier, _loader(documents))
        _save(model, target)
        tokenizer_facts.save(AutoTokenizer.from_pretrained(source, trust_remote_code=False), target)
    layers = [sizes[kind] for kind, _ in _linears(model.model)]
    return QuantizationResult(
        groups={size: layers.count(size) for size in sorted(set(layers))},
        rounded=rounded,
        bytes_before=weight_bytes(source),
        bytes_after=weight_bytes(target),
    )


def group_size(width: int, group: int) -> int:
    """Group size, the inputs that share a scale, in a layer of `width` inputs: the largest divisor of the width that is at
    most `group`. Where even that is below SMALLEST_GROUP, all inputs of a row share one (by channel).
    """
    size = next(g for g in range(min(group, width), 0, -1) if width % g == 0)
    return size if size >= min(SMALLEST_GROUP, group) else width


def group_sizes(decoder: nn.Module, group: int) -> dict[str, int]:
    """The group size of each kind of linear layer (`q_proj`, `down_proj`, ...); layers of a kind share it."""
    widths = defaultdict(set)
    for kind, layer in _linears(decoder):
        widths[kind].add(layer.in_features)
    return {kind: group_size(math.gcd(*found), group) for kind, found in widths.items()}


def weight_bytes(folder: Path) -> int:
    """Bytes of a model folder's weight files."""
    return sum(file.stat().st_size for file in folder.glob("*.safetensors"))


def _linears(decoder: nn.Module) -> Iterator[tuple[str, nn.Linear]]:
    """Every linear layer with its kind."""
    return (
        (name.rpartition(".")[2], module)
        for name, module in decoder.named_modules()
        if isinstance(module, nn.Linear)
    )


def _load(source: Path) -> PreTrainedModel:
    model: PreTrainedModel = AutoModelForSequenceClassification.from_pretrained(
        source,
        num_labels=len(LABELS),
        id2label=dict(enumerate(LABELS)),
        label2id={label: n for n, label in enumerate(LABELS)},
        dtype="auto",
        attn_implementation="eager",
        use_safetensors=True,
        trust_remote_code=False,
    )
    model.score.float().weight.data.copy_(stored_head(source))
    return model


def _loader(documents: Sequence[NDArray[np.int32]]) -> DataLoader[Any]:
    rows: Any = [{"input_ids": torch.from_numpy(d.astype(np.int64))[None]} for d in documents]
    return DataLoader(rows, batch_size=None)


def _modifier(
    model: PreTrainedModel, method: Method, sizes: dict[str, int], on_layer: OnLayer
) -> QuantizationModifier | GPTQModifier:
    schemes = {
        f"group_{size}": QuantizationScheme(
            targets=[rf"re:.*\.{kind}$" for kind in sorted(sizes) if sizes[kind] == size],
            weights=QuantizationArgs(num_bits=8, strategy="group", group_size=size, symmetric=True),
        )
        for size in sorted(set(sizes.values()))
    }
    if method == "rtn":
        return QuantizationModifier(config_groups=schemes)

    class ReportingGPTQ(GPTQModifier):  # type: ignore[misc]
        """GPTQ that reports each decoder layer; the pipeline's last part holds none."""

        def on_sequential_epoch_end(self, *args: Any, **kwargs: Any) -> None:
            super().on_sequential_epoch_end(*args, **kwargs)
            done = next(finished)
            if done <= model.config.num_hidden_layers:
                on_layer(done, model.config.num_hidden_layers)

    finished = count(1)
    return ReportingGPTQ(config_groups=schemes)


def _calibrate(
    decoder: PreTrainedModel, modifier: QuantizationModifier | GPTQModifier, loader: DataLoader[Any]
) -> tuple[str, ...]:
    """Quantise the decoder in place; returns the names of the layers that had to be rounded.

    As `llmcompressor.oneshot`, but without its conversion of Gemma's norms through 1 + w, which changes them in
    16 bits, and without its process-wide settings.
    """
    with create_session() as session:
        session.initialize(model=decoder, start=-1, recipe=modifier, calib_data=loader)
        CalibrationPipeline.from_modifiers([modifier])(decoder, loader, DatasetArguments())
        rounded = tuple(getattr(modifier, "_rtn_fallback_module_names", ()))
        session.finalize()
    remove_dispatch(decoder)
    return rounded


def _save(model: PreTrainedModel, target: Path) -> None:
    compressor = ModelCompressor.from_pretrained_model(model)
    compressor.compress_model(model)
    model.save_pretrained(target)
    compressor.update_config(target)
    if getattr(model.config, "attn_logit_softcapping", None) is not None:
        prefer_eager(target)


def _with_stderr(function: OnLayer) -> OnLayer:
    """The function called with the present stderr, before it is silenced."""
    stderr = sys.stderr

    def call(done: int, total: int) -> None:
        with redirect_stderr(stderr):
            function(done, total)

    return call


@contextmanager
def _silenced() -> Iterator[None]:
    """Silence the progress bars of three libraries and torch.fx's warnings, all on stderr."""
    tracing = logging.getLogger("torch.fx._symbolic_trace")
    level = tracing.level
    tracing.setLevel(logging.ERROR)
    try:
        with redirect_stderr(StringIO()):
            yield
    finally:
        tracing.setLevel(level)
