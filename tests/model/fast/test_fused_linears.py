"""Tests of fused layers against plain ones, for each format of frozen weights."""

from copy import deepcopy

import pytest
import torch
import torch.nn.functional as F
from tiny_models import FAMILIES, base, votes

from tiebreak.model import classifier, streaming_loader
from tiebreak.model.fast import fsdp, nf4
from tiebreak.model.fast.fused_linears import FusedLinear, fused_linears
from tiebreak.model.fast.fused_mlp import GatedMlp
from tiebreak.model.fast.lora_matmul import forward, input_gradient
from tiebreak.model.lora import adapted_layers, adapter_state, load_adapter, save_adapter
from tiebreak.recipe.models import Lora
from tiebreak.recipe.schema import Prompt
from tiebreak.tokens.packing import Packed, pack
from tiebreak.tokens.prompt import tokenize

pytestmark = pytest.mark.slow

LORA = Lora(rank=4, alpha=8.0, dropout=0.0)


def plain(family: str) -> classifier.Classifier:
    ours = classifier.load_adapted(base(family), LORA, None, "fp32", "cpu", seed=3)
    generator = torch.Generator().manual_seed(0)
    for _, layer in adapted_layers(ours.model):
        layer.lora_B.data.normal_(std=0.05, generator=generator)
    return ours


def fused(like: classifier.Classifier, family: str, kind: str) -> classifier.Classifier:
    config = classifier._config(base(family))
    model, has_head = streaming_loader.load(base(family), config, torch.float32, "cpu", kind, LORA, seed=3)
    ours = classifier._classifier(base(family), model, has_head, "cpu", seed=3)
    with torch.no_grad():
        for (name, layer), (other, source) in zip(
            sorted(adapted_layers(ours.model)), sorted(adapted_layers(like.model)), strict=True
        ):
            assert name == other
            assert torch.equal(layer.lora_A, source.lora_A), "the same seed draws the same adapters"
            layer.lora_B.copy_(source.lora_B)
    return ours


def batch(ours: classifier.Classifier) -> Packed:
    tokens = tokenize(votes(5), ours.tokenizer, Prompt())
    return pack([tokens.row(vote, order, 200) for vote in range(5) for order in (0, 1)])


def learned(ours: classifier.Classifier, packed: Packed) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Logits, and the gradient of every adapter and of the head."""
    logits = ours.logits(packed)
    F.cross_entropy(logits, torch.arange(len(logits)) % 3).backward()
    gradients = {"head": ours.model.score.weight.grad}
    for name, module in ours.model.named_modules():
        if isinstance(module, FusedLinear):
            a, b = module.lora_A.grad, module.lora_B.grad
            for n, part in enumerate(torch.split(b, module.sizes)):
                gradients |= {f"{module.names[n]} A": a[4 * n : 4 * n + 4], f"{module.names[n]} B": part}
        elif hasattr(module, "lora_A"):
            gradients |= {f"{name} A": module.lora_A.grad, f"{name} B": module.lora_B.grad}
    return logits.detach(), gradients


@pytest.mark.parametrize("family", FAMILIES)
def test_dense_stacks_equal_plain_layers(family: str) -> None:
    reference = plain(family)
    packed = batch(reference)
    expected, gradients = learned(reference, packed)
    logits, found = learned(fused(reference, family, "dense"), packed)
    torch.testing.assert_close(logits, expected, atol=1e-5, rtol=0)
    assert found.keys() == gradients.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(
            found[name], gradient, atol=1e-6, rtol=1e-3, msg=lambda m, n=name: f"{n}: {m}"
        )


@pytest.mark.parametrize("family", FAMILIES)
def test_adapters_go_to_files_and_back(family: str, tmp_path) -> None:
    reference = plain(family)
    ours = fused(reference, family, "dense")
    state = adapter_state(reference.model, with_head=True)
    assert adapter_state(ours.model, with_head=True).keys() == state.keys()
    for name, tensor in adapter_state(ours.model, with_head=True).items():
        assert torch.equal(tensor, state[name])
    changed = {name: tensor + 1 for name, tensor in state.items()}
    save_adapter(changed, LORA, tmp_path)
    assert load_adapter(ours.model, tmp_path)
    for name, tensor in adapter_state(ours.model, with_head=True).items():
        assert torch.equal(tensor, changed[name])


def random_stack(kind: str, lora: Lora | None = LORA) -> FusedLinear:
    """Three members of different widths, with weights and biases."""
    layers = tuple(torch.nn.Linear(64, outputs) for outputs in (96, 32, 64))
    generator = torch.Generator().manual_seed(0)
    stack = FusedLinear(("q", "k", "v"), layers, kind, torch.float32, "cpu", lora, generator)
    for n, layer in enumerate(layers):
        stack.fill(n, layer.weight.detach(), layer.bias.detach())
    stack.lora_B.data.normal_(std=0.3, generator=generator)
    return stack


def decoded(stack: FusedLinear) -> torch.Tensor:
    """The decoded weight of a fused layer."""
    if stack.kind == "fp8":
        return stack.codes[:, : stack.inputs].float() * stack.scales[:, None]
    if stack.kind == "nf4":
        return nf4.decode(stack.codes, stack.scales, sum(stack.sizes), torch.float32)
    return stack.weight[:, : stack.inputs]


def part_by_part(stack: FusedLinear, x: torch.Tensor) -> torch.Tensor:
    """A reference, member by member: W x + b + scale B A x."""
    weights, biases = decoded(stack).split(stack.sizes), stack.bias.split(stack.sizes)
    outputs = [
        x @ w.t() + bias + stack.scale * (x @ a.t()) @ b.t()
        for w, bias, (_, a, b) in zip(weights, biases, stack.members(), strict=True)
    ]
    return torch.cat(outputs, 1)


@pytest.mark.parametrize(("kind", "tolerance"), [("dense", 1e-6), ("nf4", 1e-6), ("fp8", 0.04)])
def test_a_fused_layer_concatenates_its_members(kind: str, tolerance: float) -> None:
    if kind == "nf4":
        pytest.importorskip("bitsandbytes")
    stack = random_stack(kind)
    stack.prepare()
    x = torch.randn(50, 64, requires_grad=True)
    parameters = (x, stack.lora_A, stack.lora_B)
    upstream = torch.randn(50, 192)
    expected = part_by_part(stack, x)
    wanted = [expected, *torch.autograd.grad(expected, parameters, upstream)]
    y = stack(x)
    found = [y, *torch.autograd.grad(y, parameters, upstream)]
    for got, want in zip(found, wanted, strict=True):
        error = (got - want).norm() / want.norm()
        assert error < tolerance, f"relative error {error:.3f}"


@pytest.mark.parametrize("size", [1e-6, 1e-3, 1.0, 100.0])
def test_fp8_represents_an_adapter_of_any_size(size: float) -> None:
    """B shares the weight's scales; its factor must keep it in range."""
    stack = random_stack("fp8")
    stack.lora_B.data.mul_(size)
    x = torch.randn(50, 64)
    stack.prepare()
    with torch.no_grad():
        whole = stack(x) - stack.bias
        stack.lora_B.zero_()
        stack.prepare()
        low = whole - (stack(x) - stack.bias)
    stack = random_stack("fp8")
    stack.lora_B.data.mul_(size)
    with torch.no_grad():
        expected = part_by_part(stack, x) - x @ decoded(stack).t() - stack.bias
        noise = 0.04 * (x @ decoded(stack).t()).norm()
    assert (low - expected).norm() < 0.06 * expected.norm() + noise


def test_dropout_drops_inputs_and_keeps_the_mean() -> None:
    stack = random_stack("dense")
    stack.dropout = 0.25
    x = torch.randn(50, 64)
    frozen = x @ decoded(stack).t()
    kept, low = [], []
    for seed in range(300):
        torch.manual_seed(seed)
        stack.train().prepare()
        kept.append((stack.keep_I > 0).float().mean())
        low.append((stack(x) - frozen - stack.bias).detach())
    assert abs(torch.stack(kept).mean() - 0.75) < 0.02
    stack.eval().prepare()
    assert stack.keep_I is None
    exact = (stack(x) - frozen - stack.bias).detach()
    assert (torch.stack(low).mean(0) - exact).norm() < 0.1 * exact.norm()


def test_dropout_has_the_gradient_of_its_mask() -> None:
    stack = random_stack("dense")
    stack.dropout = 0.5
    stack.train().prepare()
    keep = stack.keep_I
    x, upstream = torch.randn(20, 64), torch.randn(20, 192)
    a, b = (p.detach().clone().requires_grad_() for p in (stack.lora_A, stack.lora_B))
    low = (x * keep) @ a.t()
    parts = [p @ q.t() for p, q in zip(low.split(4, 1), b.split(stack.sizes), strict=True)]
    expected = torch.autograd.grad(torch.cat(parts, 1) * stack.scale, (a, b), upstream)
    found = torch.autograd.grad(stack(x), (stack.lora_A, stack.lora_B), upstream)
    for got, want in zip(found, expected, strict=True):
        torch.testing.assert_close(got, want, atol=1e-5, rtol=1e-4)


def test_without_adapters_a_fused_layer_is_its_frozen_weights() -> None:
    weight, x, none = torch.randn(32, 16), torch.randn(5, 16), torch.empty(0, 16)
    y, low = forward(x, [weight], none, [32])
    assert torch.equal(y, x @ weight.t())
    assert low.shape == (5, 0)
    dx, _ = input_gradient(y, [weight], none, [32])
    assert torch.equal(dx, y @ weight)


def test_every_linear_layer_of_the_decoder_is_fused() -> None:
    ours = fused(plain("gemma2"), "gemma2", "dense")
    names = [name for stack in fused_linears(ours.model) for name in stack.names]
    assert len(names) == len(set(names)) == 3 * 7
    assert not [m for m in ours.model.model.modules() if isinstance(m, torch.nn.Linear)]
    assert {len(stack.names) for stack in fused_linears(ours.model)} == {1, 2, 3}
    assert all(isinstance(layer.mlp, GatedMlp) for layer in ours.model.model.layers)


@pytest.mark.parametrize("kind", ["fp8", "nf4"])
def test_sharded_codes_are_floats_with_the_same_values(kind: str) -> None:
    """FSDP2 of torch 2.11 shards only floating types."""
    if kind == "nf4":
        pytest.importorskip("bitsandbytes")
    stack, x = random_stack(kind), torch.randn(5, 64)
    stack.prepare()
    expected = stack(x)
    fsdp._view_codes_as_bf16(stack)
    assert all(p.is_floating_point() and p.element_size() > 1 for p in stack.parameters())
    assert torch.equal(stack(x), expected)


def test_changes_of_the_master_weights_are_applied() -> None:
    stack, x = random_stack("dense"), torch.randn(5, 64)
    stack.prepare()
    before = stack(x)
    with torch.no_grad():
        stack.lora_B.add_(1.0)
    stack.prepare()
    assert not torch.allclose(stack(x), before)
    torch.testing.assert_close(stack(x), part_by_part(stack, x))


@pytest.mark.parametrize("kind", ["dense", "fp8", "nf4"])
def test_a_fused_layer_without_adapters_is_its_weights_and_biases(kind: str) -> None:
    if kind == "nf4":
        pytest.importorskip("bitsandbytes")
    stack, x = random_stack(kind, lora=None), torch.randn(50, 64)
    stack.prepare()
    expected = x @ decoded(stack).t() + stack.bias
    assert (stack(x) - expected).norm() < (0.04 if kind == "fp8" else 1e-6) * expected.norm()


def test_prepared_tensors_are_no_parameters_and_are_copied() -> None:
    stack = random_stack("fp8")
    stack.prepare()
    assert set(stack.state_dict()) == {"lora_A", "lora_B", "codes", "scales", "factor", "bias"}
    other, x = deepcopy(stack), torch.randn(5, 64)
    with torch.no_grad():
        other.lora_B.copy_(-stack.lora_B)
    other.prepare()
    difference = stack(x) - other(x)
    expected = 2 * (part_by_part(stack, x) - x @ decoded(stack).t() - stack.bias)
    assert (difference - expected).norm() < 0.1 * expected.norm()


@pytest.mark.parametrize("kind", ["dense", "fp8", "nf4"])
@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_the_type_of_the_input_selects_fp32(family: str, kind: str) -> None:
    """With fp32 input a 16-bit layer computes as an fp32 one does, except for FP8's quantised activations."""
    if kind == "nf4":
        pytest.importorskip("bitsandbytes")
    reference = plain(family)
    packed = batch(reference)
    config = classifier._config(base(family))
    layers = []
    for dtype in (torch.float32, torch.bfloat16):
        model, _ = streaming_loader.load(base(family), config, dtype, "cpu", kind, LORA, seed=3)
        for stack in fused_linears(model):
            stack.unfreeze_adapters()
            if kind == "dense":
                stack.weight.data.copy_(stack.weight.data.bfloat16())
            stack.lora_B.data.normal_(std=0.05, generator=torch.Generator().manual_seed(1))
            stack.prepare()
        layers.append(model.model.layers[0])
    x = torch.randn(len(packed.ids_T), layers[0].mlp.up.inputs)
    for part in (lambda layer: layer.mlp(x), lambda layer: layer.self_attn.q_proj(x)):
        expected, found = (part(layer) for layer in layers)
        assert found.dtype == torch.float32
        error = (found - expected).norm() / expected.norm()
        assert error < (0.06 if kind == "fp8" else 1e-5)
