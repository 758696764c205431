"""8-bit inference with packed weights: memory use follows the file size.

Plain transformers turns the codes of such a folder into 16- or 32-bit weights at the first forward. Here
every quantised linear layer keeps them, one byte a weight, and widens a block of rows at a time while it
multiplies. The widened weights are those of plain transformers bit for bit. compressed-tensors is not needed.

Dimension letters: T tokens, O output features, I input features, G groups of input features.
"""

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import safe_open
from torch import Tensor, nn

from tiebreak import json_files
from tiebreak.errors import TiebreakError
from tiebreak.judge import package
from tiebreak.model import attention, families, tokenizer_facts
from tiebreak.model.classifier import Classifier, compute_type, quiet, ready
from tiebreak.model.decoders import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    HfQuantizer,
    PreTrainedModel,
    QuantizationConfigMixin,
    register_quantization_config,
    register_quantizer,
    without_compiler,
)
from tiebreak.model.fast.fuse import fuse

PACKED = ".weight_packed"
SIGN_BITS = -0x7F7F7F80  # 0x80808080: a word of the file holds four codes, each with 128 added
BLOCK_WEIGHTS = {"cpu": 1 << 20, "cuda": 1 << 28}  # what a CPU's cache holds; whole layers on a GPU
METHOD = "tiebreak-int8"


def int8_linear(x_TI: Tensor, codes_OI: Tensor, scales_OG: Tensor) -> Tensor:
    """X W^T of shape (..., O) with W = scale * code, a scale for each row and group of inputs.

    The weights are widened to the type of the scales, a block of rows at a time.
    """
    rows = max(1, BLOCK_WEIGHTS[x_TI.device.type] // codes_OI.shape[1])
    blocks = [
        F.linear(x_TI, dequantized(codes_OI[start : start + rows], scales_OG[start : start + rows]))
        for start in range(0, len(codes_OI), rows)
    ]
    return blocks[0] if len(blocks) == 1 else torch.cat(blocks, dim=-1)


def dequantized(codes_OI: Tensor, scales_OG: Tensor) -> Tensor:
    """The weights (O, I) that the codes stand for, in the type of the scales."""
    codes_OGJ = codes_OI.reshape(*scales_OG.shape, -1)
    return codes_OGJ.to(scales_OG.dtype).mul_(scales_OG[..., None]).flatten(1)


class Int8Linear(nn.Module):
    """A linear layer of 8-bit codes (O, I) and scales (O, G). Frozen.

    Parameters bear the names of compressed-tensors' pack-quantized format until `unpack` is called.
    """

    def __init__(self, layer: nn.Linear, packed_shape: list[int], scale_shape: list[int]) -> None:
        super().__init__()
        self.in_features, self.out_features = layer.in_features, layer.out_features
        self.weight_packed = _frozen(torch.empty(packed_shape, dtype=torch.int32, device="meta"))
        self.weight_scale = _frozen(torch.empty(scale_shape, dtype=layer.weight.dtype, device="meta"))
        self.weight_shape = _frozen(torch.empty(2, dtype=torch.int64, device="meta"))
        self.bias = layer.bias

    def unpack(self) -> None:
        """Reinterpret the words of the file as signed codes, in place."""
        words = self.weight_packed.data
        words ^= SIGN_BITS
        self.codes_OI = _frozen(words.view(torch.int8)[:, : self.in_features])
        self.scales_OG = self.weight_scale
        del self.weight_packed, self.weight_scale, self.weight_shape

    @property
    def weight(self) -> Tensor:
        """The weights (O, I) that the codes stand for."""
        return dequantized(self.codes_OI, self.scales_OG)

    def forward(self, x: Tensor) -> Tensor:
        y = int8_linear(x, self.codes_OI, self.scales_OG)
        return y if self.bias is None else y + self.bias


def load_classifier(folder: Path, precision: str = "auto", device: str = "cpu") -> Classifier:
    """Load a quantised folder as `model.classifier.load` loads a plain one.

    precision is the compute type; fp8 turns the codes into FP8's, which cards from Hopper on multiply at twice
    the rate of 16 bits, for a little more rounding.
    """
    model = load_int8(folder, device, compute_type(precision, device))
    if precision == "fp8":
        fuse(model, "fp8", model.dtype, device, None, 0, Int8Linear)
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    model.config.pad_token_id = tokenizer_facts.prepare(tokenizer, model.config.vocab_size, str(folder))
    return ready(Classifier(model, tokenizer, head_trained=True), folder, device)


@without_compiler()
def load_int8(folder: Path, device: str = "cpu", dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    """Load a classifier whose quantised layers are `Int8Linear`, ready for packed rows; the score head in fp32.

    The folder is read once into host memory, at its own size, and moved to the device.
    Raises TiebreakError for a folder that is not quantised, or not in the format of `judge.gptq`.
    """
    if not is_quantized(folder):
        raise TiebreakError(f"{folder} is not quantised; load it with tiebreak.model.classifier.load")
    config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    _check_scheme(folder, config.quantization_config)
    del config.quantization_config
    families.require(str(folder), config.to_dict())
    model: PreTrainedModel
    with quiet():
        model, info = AutoModelForSequenceClassification.from_pretrained(
            folder,
            config=config,
            dtype=dtype,
            attn_implementation=attention.NAME,
            quantization_config=_KeepPacked(),
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
    if wrong := sorted(info["missing_keys"] | info["unexpected_keys"]):
        raise TiebreakError(
            f"{folder} does not hold the weights of its model: {wrong[:3]} among {len(wrong)}"
        )
    return model.requires_grad_(False).to(device).eval()


def is_quantized(folder: Path) -> bool:
    """True if the folder's config.json declares compressed weights."""
    config = folder / "config.json"
    return config.is_file() and "quantization_config" in json_files.read_object(config, package.AGAIN)


def _check_scheme(folder: Path, scheme: Any) -> None:
    """Refuse all but symmetric 8-bit integers with scales for groups of inputs, activations left alone."""
    groups = scheme.get("config_groups", {}).values()
    weights = [group["weights"] for group in groups]
    fits = (
        scheme.get("format") == "pack-quantized"
        and all(w["num_bits"] == 8 and w["type"] == "int" and w["symmetric"] for w in weights)
        and all(w["strategy"] in ("group", "channel") for w in weights)
        and not any(group.get("input_activations") for group in groups)
    )
    if not fits:
        raise TiebreakError(
            f"{folder} is quantised as {scheme.get('quant_method')} {scheme.get('format')}; valid here: "
            "compressed-tensors pack-quantized, 8 bits, int, symmetric, by group or channel"
        )


def _frozen(tensor: Tensor) -> nn.Parameter:
    return nn.Parameter(tensor, requires_grad=False)


@register_quantization_config(METHOD)
class _KeepPacked(QuantizationConfigMixin):  # type: ignore[misc]
    """Selects the quantizer below in `from_pretrained`."""

    def __init__(self) -> None:
        self.quant_method = METHOD


@register_quantizer(METHOD)
class _PackedQuantizer(HfQuantizer):  # type: ignore[misc]
    """Puts Int8Linear where the file holds codes, before `from_pretrained` reads it and after."""

    is_trainable = False

    def is_serializable(self) -> bool:
        return False

    def _process_model_before_weight_loading(
        self, model: PreTrainedModel, checkpoint_files: list[str], **_: Any
    ) -> None:
        shapes = _shapes(checkpoint_files)
        for key in (key for key in shapes if key.endswith(PACKED)):
            name = key.removesuffix(PACKED)
            layer = model.get_submodule(name)
            model.set_submodule(name, Int8Linear(layer, shapes[key], shapes[f"{name}.weight_scale"]))
        model.score.float()  # still on meta: it makes the loader keep the head's fp32 weights

    def _process_model_after_weight_loading(self, model: PreTrainedModel, **_: Any) -> None:
        for module in model.modules():
            if isinstance(module, Int8Linear):
                module.unpack()
        self.remove_quantization_config(model)


def _shapes(files: list[str]) -> dict[str, list[int]]:
    """Name and shape of every tensor in safetensors files, from their headers."""
    with ExitStack() as stack:
        opened = [stack.enter_context(safe_open(file, framework="pt")) for file in files]
        return {key: file.get_slice(key).get_shape() for file in opened for key in file.keys()}  # noqa: SIM118
