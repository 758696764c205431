"""Tests of a batch's gradients: tensors of a fixed shape, as graphs take them, beside the plain backward."""

import numpy as np
import pytest
import torch

from tests.model.fast.test_compile import on_kernels, random_classifier
from tiebreak.tokens.packing import batches
from tiebreak.training.gradients import Gradients
from tiebreak.training.losses import Loss, Targets

pytestmark = pytest.mark.slow

LOSS = Loss(label=0.5, kl=0.3, cosine=0.2, temperature=2.0, smoothing=0.1)


@pytest.mark.parametrize(("teachers", "weighted"), [(True, True), (False, False)])
def test_padded_tensors_give_the_gradients_of_the_batch(
    teachers: bool, weighted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = on_kernels(random_classifier("llama"))
    rng = np.random.default_rng(0)
    documents = [rng.integers(1, 100, n).astype(np.int32) for n in (30, 17, 9)]
    ((members, packed),) = batches(documents, 128, True)
    assert len(packed.ends_D) > len(members), "there is padding to be left out"
    torch.manual_seed(0)
    targets = Targets(
        torch.rand(3, 3).softmax(1),
        torch.randn(3, 2, 3) if teachers else None,
        torch.tensor([1.0, 0.5, 2.0]) if weighted else None,
    )
    found = []
    for is_graphed in (False, True):
        monkeypatch.setattr(type(ours), "is_graphed", lambda self, tokens, graphed=is_graphed: graphed)
        torch.manual_seed(1)  # the same dropout
        gradients = Gradients(ours, LOSS, torch.amp.GradScaler("cpu", enabled=False))
        total = gradients.add([(packed, targets)], 3)
        found.append((total, {name: p.grad.clone() for name, p in ours.trainable().items()}))
        ours.model.zero_grad()
    (plain, expected), (padded, actual) = found
    torch.testing.assert_close(padded, plain)
    for name, gradient in expected.items():
        torch.testing.assert_close(actual[name], gradient, msg=lambda text, name=name: f"{name}: {text}")


def test_a_backward_is_recorded_where_it_adds_to_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    """Recorded without gradients it would make them anew at each replay, and a step would lose all batches but its last."""
    ours = on_kernels(random_classifier("llama"))
    monkeypatch.setattr(type(ours), "is_graphed", lambda self, tokens: True)
    ((_, packed),) = batches([np.ones(9, np.int32)], 128, True)
    batch = (packed, Targets(torch.tensor([[1.0, 0.0, 0.0]])))
    gradients = Gradients(ours, Loss(), torch.amp.GradScaler("cpu", enabled=False))
    where: list[list[int]] = []

    def places() -> list[int]:
        return [p.grad.data_ptr() if p.grad is not None else 0 for p in ours.trainable().values()]

    class Recording:
        def replay(self, inputs: tuple[torch.Tensor, ...]) -> torch.Tensor:
            where.append(places())
            return gradients._of_tensors(*inputs)

    def record(inputs: tuple[torch.Tensor, ...]) -> Recording:
        where.append(places())
        return Recording()

    monkeypatch.setattr(gradients._graphs, "_record", record)
    optimizer = torch.optim.SGD(ours.trainable().values(), lr=0.1)
    for step in ([batch], [batch, batch], [batch, batch]):  # run, then recorded in a step of its own
        gradients.add(step, len(step))
        gradients.zero(optimizer)
    assert len(where) == 5, "one recording, and four replays"
    assert all(all(found) for found in where)
    assert all(found == where[0] for found in where), "they stay where they were when it was recorded"
