from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tiebreak.errors import TiebreakError
from tiebreak.training import dry_run
from tiebreak.training.dry_run import FIXED_TOKENS, MemoryProfile, choose_budget


def memory(
    free: float, base: float = 10.0, per_layer: float = 1.0, tokens: int = 8192, layers: int = 80
) -> MemoryProfile:
    return MemoryProfile(layers, tokens, free, base, per_layer)


def test_all_activations_are_kept_where_they_fit() -> None:
    assert choose_budget(memory(free=90.0)) == (8192, 0)
    assert choose_budget(memory(free=500.0)) == (8192, 0)


def test_layers_beyond_memory_are_recomputed() -> None:
    assert choose_budget(memory(free=88.0)) == (8192, 2)


def test_half_the_tokens_beat_recomputing_half_of_the_layers() -> None:
    assert choose_budget(memory(free=50.0)) == (4096, 0)


def test_a_sharded_model_gathers_its_weights_less_often() -> None:
    """Two H100s with a 70B in FP8: 22.4 GiB, 14 of them with one layer kept, 1.3 a layer."""
    measured = MemoryProfile(
        79, 8192, free=22.4, base=12.7, per_layer=1.29, fixed_tokens=dry_run.FIXED_TOKENS_SHARDED
    )
    assert choose_budget(measured) == (8192, 72)
    assert choose_budget(replace(measured, fixed_tokens=FIXED_TOKENS)) == (1024, 0)


def test_the_choice_is_the_quickest_of_all() -> None:
    def seconds(tokens: int, recomputed: int) -> float:
        return 1 + 0.5 * recomputed / 80 + FIXED_TOKENS / tokens

    for free in range(5, 100, 3):
        fits = [
            (tokens, recomputed)
            for tokens in (8192, 4096, 2048, 1024)
            for recomputed in range(80)
            if (10.0 + 80 - recomputed) * tokens / 8192 <= free
        ]
        assert seconds(*choose_budget(memory(free))) == min(seconds(*option) for option in fits)


def test_a_model_that_fits_no_budget_is_an_error() -> None:
    with pytest.raises(TiebreakError, match="fp8 or nf4"):
        choose_budget(memory(free=1.0))


def test_a_small_budget_of_the_recipe_is_kept() -> None:
    assert choose_budget(memory(free=200.0, tokens=512)) == (512, 0)


GIB, LAYERS = 2**30, 8


class FakeCard:
    """A card of `room` GiB beside weights of 10, and a model whose activations take `peak` bytes.

    adapters: GiB of their gradients. share: of the card's 100 GiB, what this process may take.
    """

    def __init__(
        self,
        room: float,
        monkeypatch: pytest.MonkeyPatch,
        surprise: float = 0.0,
        adapters: float = 0.0,
        share: float = 1.0,
        graphed: bool = False,
    ) -> None:
        self.room, self.surprise, self.adapters, self.graphed = room, surprise, adapters, graphed
        self.tried: list[tuple[int, int]] = []
        monkeypatch.setattr(dry_run, "_peak", self.peak)
        monkeypatch.setattr(dry_run, "MARGIN", 0.0)
        monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
        monkeypatch.setattr(torch.cuda, "memory_allocated", lambda: 10 * GIB)
        monkeypatch.setattr(torch.cuda, "memory_reserved", lambda: 10 * GIB)
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (room * GIB, 100 * GIB))
        monkeypatch.setattr(torch.cuda, "get_per_process_memory_fraction", lambda: share)

    def peak(self, classifier: Any, tokens: int, recomputed: int) -> int:
        """Bytes for 4,096 tokens: 1 GiB and another for each layer kept, or for one recomputed if none is kept.

        More than estimated where most layers are kept.
        """
        self.tried.append((tokens, recomputed))
        gib = self.adapters + tokens / 4096 * (1 + max(1, LAYERS - recomputed))
        gib += self.surprise * (recomputed < LAYERS - 1 - dry_run.PROBE_LAYERS)
        if gib > self.room:
            raise torch.cuda.OutOfMemoryError("out of memory")
        return int((10 + gib) * GIB)

    def fit_to_memory(self, budget: int, longest: int = 500, **resumed: bool) -> tuple[int, int]:
        """Tokens of a forward, and recomputed layers."""
        layers = [None] * (LAYERS + 1)  # the last one always keeps
        model = SimpleNamespace(model=SimpleNamespace(layers=layers))
        weights = {"a": SimpleNamespace(numel=lambda: int(self.adapters * GIB / 4))}
        classifier: Any = SimpleNamespace(
            model=model,
            trainable=lambda: weights,
            skips_last_layer=True,
            is_graphed=lambda tokens: self.graphed,
        )
        return dry_run.fit_to_memory(classifier, budget, longest, **resumed), self.tried[-1][1]


def test_activations_that_fit_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    assert FakeCard(20.0, monkeypatch).fit_to_memory(8192) == (8192, 0)


def test_recorded_graphs_have_memory_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """18 GiB of activations fit 20, but not twice."""
    assert FakeCard(20.0, monkeypatch).fit_to_memory(8192) == (8192, 0)
    assert FakeCard(20.0, monkeypatch, graphed=True).fit_to_memory(8192) == (4096, 0)


def test_free_memory_may_belong_to_another_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """20 GiB are free beside the weights' 10, and a fifth of the card is this process's."""
    assert FakeCard(20.0, monkeypatch).fit_to_memory(8192) == (8192, 0)
    assert FakeCard(20.0, monkeypatch, share=0.2).fit_to_memory(8192) == (4096, 0)


def test_half_the_budget_is_taken_where_it_is_quicker(monkeypatch: pytest.MonkeyPatch) -> None:
    assert FakeCard(9.5, monkeypatch).fit_to_memory(8192) == (4096, 0)


def test_a_budget_that_cannot_fit_is_halved(monkeypatch: pytest.MonkeyPatch) -> None:
    tokens, recomputed = FakeCard(1.2, monkeypatch).fit_to_memory(16384)
    assert tokens / 4096 * (1 + LAYERS - recomputed) <= 1.2
    assert recomputed < LAYERS, "to keep one costs nothing"
    assert tokens < 4096


def test_more_layers_are_recomputed_where_the_estimate_was_too_low(monkeypatch: pytest.MonkeyPatch) -> None:
    card = FakeCard(9.5, monkeypatch, surprise=2.0)
    tokens, recomputed = card.fit_to_memory(4096)
    assert tokens == 4096
    assert 1 + LAYERS - recomputed + 2 <= 9.5
    assert card.tried[-2] == (4096, recomputed - 1), "one tenth of the layers more each time"


def test_the_optimizers_moments_are_reserved(monkeypatch: pytest.MonkeyPatch) -> None:
    """9 GiB of activations, 0.75 unforeseen and half a one of gradients fit 10.5; 1 more for moments does not."""
    card = FakeCard(10.5, monkeypatch, surprise=0.75, adapters=0.5)
    assert card.fit_to_memory(4096) == (4096, 1)
    assert card.tried[-2] == (4096, 0)
    assert FakeCard(10.5, monkeypatch, surprise=0.75, adapters=0.5).fit_to_memory(4096, resumed=True) == (
        4096,
        0,
    )


def test_gradients_are_allocated_while_a_forward_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    weight = torch.nn.Parameter(torch.ones(3))

    def logits(batch: Any) -> torch.Tensor:
        assert weight.grad is not None
        return weight * 2

    model = SimpleNamespace(zero_grad=lambda set_to_none: None)
    classifier: Any = SimpleNamespace(
        model=model, fixed=False, device="cpu", logits=logits, trainable=lambda: {"a": weight}
    )
    monkeypatch.setattr(dry_run.compile, "recompute", lambda model, layers: None)
    for name in ("empty_cache", "reset_peak_memory_stats"):
        monkeypatch.setattr(torch.cuda, name, lambda: None)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: 17)
    assert dry_run._peak(classifier, 64, 0) == 17


def test_a_long_row_is_tried_even_where_the_budget_is_smaller(monkeypatch: pytest.MonkeyPatch) -> None:
    card = FakeCard(20.0, monkeypatch)
    assert card.fit_to_memory(2048, longest=6000)[0] == 2048
    assert card.tried[-1][0] == 8192, "what a row of its own is filled up to"


@pytest.mark.parametrize(("budget", "full"), [(2049, 2304), (9000, 9600), (8192, 8192)])
def test_a_full_forward_is_measured_with_its_padding(
    budget: int, full: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = FakeCard(30.0, monkeypatch)
    assert card.fit_to_memory(budget) == (budget, 0)
    assert {tokens for tokens, _ in card.tried} == {full}


def test_moments_of_a_checkpoint_are_not_counted_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """18 GiB of activations and 1 of gradients fit 20; 2 more for moments do not."""
    assert FakeCard(20.0, monkeypatch, adapters=1.0).fit_to_memory(8192, resumed=True) == (8192, 0)
    assert FakeCard(20.0, monkeypatch, adapters=1.0).fit_to_memory(8192) == (4096, 0)
    assert FakeCard(21.0, monkeypatch, adapters=1.0).fit_to_memory(8192) == (8192, 0)


def test_a_card_that_is_too_small_is_an_error_before_the_first_step(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TiebreakError, match="too small to train"):
        FakeCard(0.1, monkeypatch).fit_to_memory(8192)


def test_a_sharded_model_does_not_retry_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    def logits(batch: Any) -> torch.Tensor:
        raise torch.cuda.OutOfMemoryError("out of memory")

    model = SimpleNamespace(zero_grad=lambda set_to_none: None)
    classifier: Any = SimpleNamespace(
        model=model, fixed=False, device="cpu", logits=logits, trainable=lambda: {}
    )
    monkeypatch.setattr(dry_run.compile, "recompute", lambda model, layers: None)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda: None)
    with pytest.raises(torch.cuda.OutOfMemoryError):
        dry_run._peak(classifier, 4096, 0)
    monkeypatch.setattr(dry_run.distributed, "is_sharded", lambda: True)
    with pytest.raises(TiebreakError, match="train_tokens=2048"):
        dry_run._peak(classifier, 4096, 0)
