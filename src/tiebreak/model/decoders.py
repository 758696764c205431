"""Transformers' classes of decoders, imported in a third of the time.

Beside decoders, transformers imports torch's compiler and distributed tensors, scikit-learn and scipy, for functions that
a decoder on a CPU never calls: two thirds of a first prediction's start. Where neither a card nor a launcher of several
processes is in sight, such functions are imported when they are called. All other modules import these classes from here, so
that whichever comes first finds it so.
"""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType
from typing import Any

import torch

_DEFERRED = ("torch._dynamo._trace_wrapped_higher_order_op", "sklearn.metrics", "scipy.optimize")
"""Modules of which transformers takes functions that it calls later, and classes that it makes later."""
_COMPILER = "torch._dynamo"
_MARKS = ("allow_in_graph", "assume_constant_result", "disable")
"""Decorators that tell the compiler how to take kernels for cards. A CPU has none of them."""
_LAUNCHED = ("RANK", "SLURM_PROCID")


class _Deferred(ModuleType):
    """A stand-in whose attributes import the module when they are called."""

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda *args, **kwargs: getattr(import_module(self.__name__), name)(*args, **kwargs)


class _Compiler(ModuleType):
    """A stand-in for torch's compiler that marks nothing. Any other attribute ends it: the compiler is imported."""

    def __getattr__(self, name: str) -> Any:
        if name in _MARKS:
            return _unmarked
        for module in (_COMPILER, _DEFERRED[0]):
            sys.modules.pop(module, None)
        return getattr(import_module(_COMPILER), name)


def _unmarked(function: Any = None, *_: Any, **__: Any) -> Any:
    return _unmarked if function is None else function


def _no_group() -> bool:
    return False


@contextmanager
def without_compiler() -> Iterator[None]:
    """Within the block, modules that no decoder on a CPU needs are not imported, unless what they have is called."""
    if torch.cuda.device_count() or any(name in os.environ for name in _LAUNCHED):
        yield
        return
    compiler = _Compiler(_COMPILER)
    absent = [m for m in (compiler, *map(_Deferred, _DEFERRED)) if m.__name__ not in sys.modules]
    has_groups, torch.distributed.is_available = torch.distributed.is_available, _no_group
    if compiler in absent:
        torch._dynamo = compiler
    sys.modules.update({module.__name__: module for module in absent})
    try:
        yield
    finally:
        torch.distributed.is_available = has_groups
        for module in absent:
            if sys.modules.get(module.__name__) is module:
                del sys.modules[module.__name__]
        if vars(torch).get("_dynamo") is compiler:
            del torch._dynamo  # torch imports it on the next use


with without_compiler():
    from transformers import (
        CONFIG_MAPPING,
        MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
        AttentionInterface,
        AutoConfig,
        AutoModelForCausalLM,
        AutoModelForSequenceClassification,
        AutoTokenizer,
        PreTrainedConfig,
        PreTrainedModel,
        PreTrainedTokenizerBase,
    )
    from transformers.initialization import no_init_weights
    from transformers.models.llama import modeling_llama as modeling_llama  # what all decoders import
    from transformers.quantizers import HfQuantizer, register_quantization_config, register_quantizer
    from transformers.utils.quantization_config import QuantizationConfigMixin

__all__ = [
    "CONFIG_MAPPING",
    "MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING",
    "AttentionInterface",
    "AutoConfig",
    "AutoModelForCausalLM",
    "AutoModelForSequenceClassification",
    "AutoTokenizer",
    "HfQuantizer",
    "PreTrainedConfig",
    "PreTrainedModel",
    "PreTrainedTokenizerBase",
    "QuantizationConfigMixin",
    "no_init_weights",
    "register_quantization_config",
    "register_quantizer",
    "without_compiler",
]
