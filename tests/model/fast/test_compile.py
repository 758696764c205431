"""Tests of the GPU implementation on a CPU: kernels in Triton's interpreter, layers traced by the compiler."""

import numpy as np
import pytest
import torch
from torch._inductor import async_compile
from transformers import Gemma2Config, LlamaConfig

pytest.importorskip(
    "tiebreak.model.fast.flash_attention", exc_type=ImportError, reason="Triton is not installed"
)

from tiebreak.model import streaming_loader
from tiebreak.model.classifier import Classifier
from tiebreak.model.fast import compile
from tiebreak.model.fast.fused_linears import fused_linears
from tiebreak.recipe.models import Lora
from tiebreak.tokens.packing import batches

ON_GPU = torch.cuda.is_available()
SIZES = {
    "vocab_size": 100, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_labels": 3,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32, "pad_token_id": 0,
}  # fmt: skip
CONFIGS = {
    "llama": LlamaConfig(**SIZES),
    "gemma2": Gemma2Config(**SIZES, query_pre_attn_scalar=32, sliding_window=64),
}


def random_classifier(family: str) -> Classifier:
    torch.manual_seed(0)
    model = streaming_loader.empty_model(
        CONFIGS[family], torch.float32, "cpu", "dense", Lora(rank=4, dropout=0.1)
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.2)
    model.requires_grad_(False)
    for stack in fused_linears(model):
        stack.unfreeze_adapters()
    return Classifier(model, None, True)  # type: ignore[arg-type]


def on_kernels(classifier: Classifier) -> Classifier:
    classifier.fixed = True
    for layer in classifier.model.model.layers:
        layer.compile(dynamic=False, fullgraph=True, backend="aot_eager")
    return classifier


def learned(classifier: Classifier, documents: list[np.ndarray]) -> list[torch.Tensor]:
    """The logits in the documents' order, and all gradients."""
    z_DC = torch.empty(len(documents), 3)
    classifier.model.zero_grad()
    torch.manual_seed(1)
    for members, packed in batches(documents, 1024, classifier.fixed):
        z = classifier.logits(packed)
        z.sin().sum().backward()
        z_DC[members] = z.detach()
    return [z_DC, *(p.grad.clone() for p in classifier.trainable().values() if p.grad is not None)]


@pytest.mark.slow
@pytest.mark.skipif(ON_GPU, reason="the interpreter is for machines without a GPU")
@pytest.mark.parametrize(("family", "again"), [("llama", 0), ("gemma2", 1)])
def test_kernels_and_compiled_layers_equal_plain_attention(family: str, again: int) -> None:
    classifier = random_classifier(family)
    rng = np.random.default_rng(0)
    documents = [rng.integers(0, 100, length).astype(np.int32) for length in (150, 140, 20, 3)]
    documents[1][:100] = documents[0][:100]
    classifier.model.train()
    expected = learned(classifier, documents)
    compile.recompute(classifier.model, again)
    for got, want in zip(learned(on_kernels(classifier), documents), expected, strict=True):
        torch.testing.assert_close(got, want, atol=2e-4, rtol=1e-3)


@pytest.mark.slow
@pytest.mark.skipif(ON_GPU, reason="the interpreter is for machines without a GPU")
def test_layers_are_compiled_once_for_all_lengths() -> None:
    classifier = random_classifier("llama")
    classifier.fixed = True
    compiled = []

    def backend(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> torch.fx.GraphModule:
        compiled.append(graph)
        return graph

    for layer in classifier.model.model.layers:
        layer.compile(dynamic=True, fullgraph=True, backend=backend)
    counts = []
    for length in (40, 200, 330):
        ((_, packed),) = batches([np.ones(length, np.int32)], 512, True)
        with torch.no_grad():
            classifier.logits(packed)
        counts.append(len(compiled))
    assert counts == [2, 2, 2], "the last layer is of a kind of its own"


def test_layers_are_compiled_without_other_processes() -> None:
    """A pool of compile processes can lose a kernel, and the command would wait for it forever."""
    classifier = random_classifier("llama")
    compile.compile_layers(classifier.model)
    assert async_compile.get_compile_threads() == 1
    assert not async_compile.AsyncCompile.use_process_pool()
    compile.uncompile_layers(classifier.model)
