"""Tests of the kernel check, on correct kernels written in torch, and on kernels with one error each."""

import logging
from collections.abc import Callable
from typing import Any

import pytest
import torch
from reference_kernels import Kernel, kernel_model, reference_kernel
from tiny_models import FOR_KERNELS, base
from torch import Tensor

from tiebreak.errors import TiebreakError
from tiebreak.model.classifier import Classifier
from tiebreak.model.fast import kernel_check as checking
from tiebreak.model.fast import kernel_variants
from tiebreak.model.lora import HEAD
from tiebreak.tokens.packing import pack

pytestmark = pytest.mark.slow

flash = pytest.importorskip(
    "tiebreak.model.fast.flash_attention", exc_type=ImportError, reason="Triton is not installed"
)


def failing(*_: Any) -> tuple[Tensor, None]:
    raise RuntimeError("no such instruction\nand a long trace")


def made(family: str, kind: str = "dense", dtype: torch.dtype = torch.bfloat16) -> Classifier:
    return kernel_model(base(family, FOR_KERNELS), kind, dtype)


@pytest.fixture
def checked(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Classifier]:
    def run(ours: Classifier, kernel: Kernel, training: bool = True) -> Classifier:
        monkeypatch.setattr(flash, "flash", kernel)
        monkeypatch.setattr(checking, "LENGTHS", (90, 60, 12))
        monkeypatch.setattr(checking, "SHARED", 40)
        ours.model.train(training)
        checking.check(ours, 256, training)
        return ours

    return run


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


KINDS = ["dense", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("fp8", "nf4"))]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_right_kernels_are_kept(checked, family, dtype, kind, caplog) -> None:
    ours = checked(made(family, kind, dtype), reference_kernel())
    assert ours.fixed, warnings(caplog)
    assert ours.checked
    assert all(p.grad is None for p in ours.model.parameters())


WRONG = {
    "sees its neighbour": {"leak": 3},
    "sees one token ahead": {"ahead": 1},
    "misses its own token": {"ahead": -1},
    "is 2 % off in scale": {"scaled": 1.02},
    "is 2 % off in scale, with a soft-cap": {"scaled": 1.02},
    "forgets a term of the gradient": {"whole_gradient": False},
    "forgets the soft-cap": {"capped": False},
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_kernel_is_not_used(checked, wrong, kind, caplog) -> None:
    ours = checked(made("gemma2" if "cap" in wrong else "llama", kind), reference_kernel(**WRONG[wrong]))
    assert not ours.fixed
    (warning,) = warnings(caplog)
    assert "from fp32 in attention 0" in warning
    checking.check(ours, 256, training=True)
    assert len(warnings(caplog)) == 1


@pytest.mark.parametrize("wrong", sorted(set(WRONG) - {"forgets a term of the gradient"}))
def test_a_wrong_kernel_does_not_score_either(checked, wrong) -> None:
    ours = made("gemma2" if "cap" in wrong else "llama")
    assert not checked(ours, reference_kernel(**WRONG[wrong]), training=False).fixed


def test_right_kernels_score(checked) -> None:
    assert checked(made("llama"), reference_kernel(), training=False).fixed


def test_the_kernels_themselves_are_kept(checked, caplog) -> None:
    """On a GPU, or in Triton's interpreter, which lacks bf16."""
    ours = checked(made("llama", dtype=torch.float16), flash.flash)
    assert ours.fixed, warnings(caplog)


def test_massive_activations_do_no_harm(checked, caplog) -> None:
    """Two massive channels, with which the whole model's gradients are unreliable in 16 bits."""
    ours, exact = made("llama"), made("llama", dtype=torch.float32)
    for model in (ours.model, exact.model):
        model.get_input_embeddings().weight.data[:, :2] *= 2000
    gradients = []
    for each in (ours, exact):
        each.model.eval()
        documents = checking.sample_documents(each)
        each.logits(pack(documents)).sum().backward()
        learning = each.trainable().items()
        gradients.append(torch.cat([p.grad.flatten() for name, p in learning if name != HEAD]))
        each.model.zero_grad(set_to_none=True)
    plain, true = gradients
    assert (plain - true).norm() > 0.5 * true.norm()
    assert checked(ours, reference_kernel()).fixed, warnings(caplog)
    again = made("llama")
    again.model.get_input_embeddings().weight.data[:, :2] *= 2000
    assert not checked(again, reference_kernel(scaled=1.02)).fixed


def test_a_kernel_that_raises_is_not_used_with_one_warning(checked, caplog) -> None:
    assert not checked(made("llama"), failing).fixed
    (warning,) = warnings(caplog)
    assert "RuntimeError: no such inst" in warning
    assert "trace" not in warning


def test_a_classifier_is_compared_once(checked) -> None:
    ours = checked(made("llama"), reference_kernel(), training=False)
    assert checked(ours, failing, training=False).fixed


def test_without_a_tokenizer_tokens_are_random(checked) -> None:
    ours = made("llama")
    ours.tokenizer = None
    assert checked(ours, reference_kernel(), training=False).fixed


def test_nan_is_a_deviation(checked, caplog) -> None:
    assert not checked(made("llama"), lambda *a: (a[0] * float("nan"), None), training=False).fixed
    assert "are nan from fp32" in warnings(caplog)[0]


def test_a_backward_that_fails_ends_a_training_with_sharded_weights(checked, monkeypatch) -> None:
    def failing_backward(*_: Any) -> None:
        raise RuntimeError("out of shared memory")

    monkeypatch.setattr(torch.autograd, "grad", failing_backward)
    assert not checked(made("llama"), reference_kernel()).fixed
    ours = made("llama")
    monkeypatch.setattr(kernel_variants.distributed, "is_sharded", lambda: True)
    with pytest.raises(TiebreakError, match=r"raise RuntimeError in a backward, .*compute.shard_model=false"):
        checked(ours, reference_kernel())


def test_a_massive_row_does_not_hide_the_others() -> None:
    true = torch.ones(100, 4)
    true[3] *= 1e5
    wrong = true.clone()
    wrong[50:] *= 1.1
    assert kernel_variants.distance(wrong, true) == pytest.approx(0.05)
    assert kernel_variants.distance(true, true) == 0
    assert kernel_variants.distance(torch.zeros(3, 2), torch.zeros(3, 2)) == 0
