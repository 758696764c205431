"""The comparison of kernels with plain attention, with stand-ins for the kernels: they need a GPU."""

import logging
from collections.abc import Callable, Sequence

import pytest
import torch
from models import base

from tiebreak.data.packing import Document, Packed, pack
from tiebreak.errors import TiebreakError
from tiebreak.model import check as checking
from tiebreak.model.classifier import Classifier, load_adapted
from tiebreak.recipe import Lora

Pack = Callable[[Sequence[Document], int | None], Packed]


def right(documents: Sequence[Document], tokens: int | None = None) -> Packed:
    return pack(documents)


def leaking(documents: Sequence[Document], tokens: int | None = None) -> Packed:
    """Each document sees something else at its beginning, as if its neighbour were part of it."""
    return pack([(document + 7 * (tokens is not None)) % 50 for document in documents])


def failing(documents: Sequence[Document], tokens: int | None = None) -> Packed:
    if tokens is not None:
        raise RuntimeError("no such instruction\nand a long trace")
    return pack(documents)


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.fixture
def trained_by(monkeypatch: pytest.MonkeyPatch) -> Callable[[Pack, bool], Classifier]:
    def run(packing: Pack, training: bool) -> Classifier:
        monkeypatch.setattr(checking, "pack", packing)
        ours = load_adapted(base("llama"), Lora(rank=4, alpha=8, dropout=0.1), None, "fp32", "cpu")
        ours.fixed = True
        ours.model.train(training)
        checking.check(ours, 4096, training)
        return ours

    return run


@pytest.mark.parametrize("training", [False, True])
def test_kernels_that_agree_are_kept(trained_by, training, caplog) -> None:
    ours = trained_by(right, training)
    assert ours.fixed
    assert ours.checked
    assert not warnings(caplog)
    assert all(p.grad is None for p in ours.model.parameters())


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(
    ("packing", "said"), [(leaking, "differ from plain attention"), (failing, "RuntimeError: no such inst")]
)
def test_others_are_left_with_one_warning(trained_by, packing, said, training, caplog) -> None:
    ours = trained_by(packing, training)
    assert not ours.fixed
    (warning,) = warnings(caplog)
    assert said in warning
    assert "trace" not in warning
    checking.check(ours, 4096, training)
    assert len(warnings(caplog)) == 1


def test_a_backward_that_fails_ends_a_training_with_spread_weights(trained_by, monkeypatch) -> None:
    def failing_backward(tensor: torch.Tensor) -> None:
        raise RuntimeError("out of shared memory")

    monkeypatch.setattr(torch.Tensor, "backward", failing_backward)
    assert not trained_by(right, True).fixed
    monkeypatch.setattr(checking.distributed, "shards", lambda: True)
    monkeypatch.setattr("tiebreak.model.classifier.shard", lambda model, device: None)
    with pytest.raises(TiebreakError, match=r"raise RuntimeError in a backward, .*compute.shard_model=false"):
        trained_by(right, True)


def test_a_classifier_is_compared_once(trained_by, monkeypatch) -> None:
    ours = trained_by(right, False)
    monkeypatch.setattr(checking, "pack", failing)
    checking.check(ours, 4096, training=False)
    assert ours.fixed


def test_gradients_that_are_no_numbers_are_a_difference(trained_by, monkeypatch, caplog) -> None:
    relative = iter([0.0, float("nan")])
    monkeypatch.setattr(checking, "_relative", lambda *_: next(relative))
    assert not trained_by(right, True).fixed
    assert "differ from plain attention by nan" in warnings(caplog)[0]
