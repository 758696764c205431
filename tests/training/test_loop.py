"""Training loop against a plain torch loop, and resumed against uninterrupted training."""

import json
import logging
import math
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
import torch.nn.functional as F
from tiny_models import FOR_KERNELS, base, votes

from tiebreak.errors import Interrupted, TiebreakError
from tiebreak.model import classifier
from tiebreak.model.lora import adapter_state
from tiebreak.recipe.models import Lora
from tiebreak.recipe.schema import Prompt, Training
from tiebreak.runtime import Runtime
from tiebreak.tokens.packing import Packed, pack
from tiebreak.tokens.prompt import tokenize
from tiebreak.training import checkpoint, loop
from tiebreak.training.fit import fit
from tiebreak.training.gradients import Gradients
from tiebreak.training.loop import _update, learning_rate
from tiebreak.training.losses import Loss
from tiebreak.training.rows import TrainingRows, labels_of, optimizer_steps

pytestmark = pytest.mark.slow

TRAINING = Training(
    learning_rate=1e-2, head_rate=3.0, epochs=1, rows_per_step=6, max_tokens=150, warmup_steps=2
)


def fresh(
    dropout: float = 0.0, precision: str = "fp32", device: str = "cpu", rank: int = 4
) -> classifier.Classifier:
    lora = Lora(rank=rank, alpha=2 * rank, dropout=dropout)
    folder = base("llama") if device == "cpu" else base("llama", FOR_KERNELS)
    return classifier.load_adapted(folder, lora, None, precision, device)


def train(
    folder: Path,
    dropout: float = 0.0,
    training: Training = TRAINING,
    precision: str = "fp32",
    device: str = "cpu",
    rank: int = 4,
    **runtime: object,
):
    ours = fresh(dropout, precision, device, rank)
    surroundings = Runtime(device, folder, train_tokens=300, **runtime)
    losses = fit(ours, votes(12), Prompt(), training, surroundings, seed=5)
    return losses, adapter_state(ours.model, with_head=True)


def test_equals_a_plain_torch_loop(tmp_path: Path) -> None:
    losses, state = train(tmp_path)
    reference = fresh()
    table = votes(12)
    tokens, labels = tokenize(table, reference.tokenizer, Prompt()), labels_of(table)
    parameters = [p for p in reference.model.parameters() if p.requires_grad]
    head = reference.model.score.weight
    groups = [{"params": [p for p in parameters if p is not head]}, {"params": [head]}]
    optimizer = torch.optim.AdamW(groups, lr=1.0, weight_decay=0.0)
    steps = optimizer_steps(12, TRAINING, 5)
    for number, rows in enumerate(steps):
        for group, multiple in zip(optimizer.param_groups, (1, 3), strict=True):
            group["lr"] = multiple * learning_rate(number, len(steps), TRAINING)
        logits = reference.logits(pack([tokens.row(v, o, 150) for v, o in rows.tolist()]))
        loss = F.cross_entropy(logits, torch.from_numpy(labels[rows[:, 0], rows[:, 1]]))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, TRAINING.gradient_clip)
        optimizer.step()
        optimizer.zero_grad()
        assert losses[number] == pytest.approx(loss.item(), abs=1e-5)
    for name, expected in adapter_state(reference.model, with_head=True).items():
        torch.testing.assert_close(
            state[name], expected, atol=2e-4, rtol=1e-3, msg=lambda m, n=name: f"{n}: {m}"
        )


def test_a_vote_counts_as_much_as_its_weight(tmp_path: Path) -> None:
    """The loss of the first step is the sum of what each vote takes alone, times its weight; none given is 1.

    A step's own weights by origin multiply it.
    """

    def first_loss(name: str, weights: list[float | None], **more: np.ndarray) -> float:
        table = votes(3).drop_columns("weight").append_column("weight", pa.array(weights, pa.float32()))
        surroundings = Runtime("cpu", tmp_path / name, train_tokens=300)
        return fit(fresh(), table, Prompt(), TRAINING, surroundings, seed=5, **more)[0]

    alone = [first_loss(f"{n}", [float(n == vote) for vote in range(3)]) for n in range(3)]
    assert min(alone) > 0.1
    expected = alone[0] + 0.25 * alone[1] + 3.0 * alone[2]
    assert first_loss("together", [None, 0.25, 3.0]) == pytest.approx(expected, rel=1e-5)
    halves = np.array([0.5, 1.0, 0.5], np.float32)
    assert first_loss("twice", [2.0, 0.25, 6.0], weights_N=halves) == pytest.approx(expected, rel=1e-5)


def test_the_loss_falls(tmp_path: Path) -> None:
    losses, _ = train(tmp_path, training=TRAINING.model_copy(update={"epochs": 12.0}))
    assert sum(losses[-4:]) < 0.8 * sum(losses[:4])


@pytest.mark.parametrize("stops", [(1,), (2, 3)])
def test_a_stopped_training_ends_bit_identical(tmp_path: Path, stops: tuple[int, ...]) -> None:
    expected_losses, expected = train(tmp_path / "whole", dropout=0.3)
    for stop in stops:
        steps_seen = []
        with pytest.raises(Interrupted):
            train(
                tmp_path / "cut",
                dropout=0.3,
                report=lambda phase, done, *_, seen=steps_seen, **__: seen.append(done),
                should_stop=lambda seen=steps_seen, stop=stop: seen[-1] >= stop,
            )
        assert steps_seen[-1] == stop
    losses, state = train(tmp_path / "cut", dropout=0.3)
    assert losses == expected_losses
    assert all(torch.equal(state[name], tensor) for name, tensor in expected.items())


@pytest.mark.parametrize("precision", ["fp16", "fp8"])
def test_low_precision_follows_fp32_and_resumes(tmp_path: Path, precision: str) -> None:
    """fp16 scales its loss, and the scale is part of the checkpoint."""
    exact, _ = train(tmp_path / "exact")
    expected_losses, expected = train(tmp_path / "whole", precision=precision)
    assert expected_losses == pytest.approx(exact, abs=0.05)
    assert expected_losses != exact
    seen: list[int] = []
    with pytest.raises(Interrupted):
        train(
            tmp_path / "cut",
            precision=precision,
            report=lambda phase, done, *_, **__: seen.append(done),
            should_stop=lambda: seen[-1] >= 2,
        )
    (saved,) = (tmp_path / "cut").glob("step-*")
    scaler = json.loads((saved / "progress.json").read_text())["scaler"]
    assert bool(scaler) == (precision == "fp16")
    losses, state = train(tmp_path / "cut", precision=precision)
    assert losses == expected_losses
    assert all(torch.equal(state[name], tensor) for name, tensor in expected.items())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA card")
@pytest.mark.parametrize("precision", ["bf16", "fp8"])
def test_on_a_gpu_a_resumed_training_follows_the_curve(tmp_path: Path, precision: str) -> None:
    """Losses of about 1; the card may sum in another order, and the dry run may split the rows in another way."""
    long = TRAINING.model_copy(update={"epochs": 6.0})

    def on_gpu(folder: str, **runtime: object) -> list[float]:
        return train(tmp_path / folder, 0.3, long, precision, "cuda", 16, **runtime)[0]

    whole = on_gpu("whole")
    seen = [0]
    with pytest.raises(Interrupted):
        on_gpu(
            "cut",
            report=lambda phase, done, *_, **__: seen.append(done),
            should_stop=lambda: seen[-1] >= len(whole) // 2,
        )
    assert seen[-1] < len(whole)
    assert on_gpu("cut") == pytest.approx(whole, abs=0.01)


def test_a_damaged_checkpoint_falls_back_to_the_one_before(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    expected_losses, expected = train(tmp_path / "whole")
    seen: list[int] = []
    with pytest.raises(Interrupted):
        train(
            tmp_path / "cut",
            report=lambda phase, done, *_, **__: seen.append(done),
            should_stop=lambda: seen[-1] >= 3,
            checkpoint_minutes=0.0,
        )
    kept = sorted((tmp_path / "cut").glob("step-*"))
    assert [folder.name for folder in kept] == ["step-00000002", "step-00000003"]
    (kept[-1] / "state.safetensors").write_bytes(b"half")
    with caplog.at_level(logging.WARNING):
        losses, state = train(tmp_path / "cut")
    assert "step-00000003 is damaged" in caplog.text
    assert losses == expected_losses
    assert all(torch.equal(state[name], tensor) for name, tensor in expected.items())


def test_checkpoints_after_a_damaged_one_are_kept(tmp_path: Path) -> None:
    weights = {"w": torch.nn.Parameter(torch.zeros(3))}
    optimizer = torch.optim.AdamW(weights.values())
    for step in (90, 100):
        checkpoint.save(tmp_path, checkpoint.Progress(step, []), weights, optimizer)
        (tmp_path / f"step-{step:08d}" / "state.safetensors").write_bytes(b"half")
    assert checkpoint.restore(tmp_path, weights, optimizer).step == 0
    for step in (10, 20, 30):
        checkpoint.save(tmp_path, checkpoint.Progress(step, []), weights, optimizer)
        assert checkpoint.restore(tmp_path, weights, optimizer).step == step
    assert [folder.name for folder in sorted(tmp_path.iterdir())] == ["step-00000020", "step-00000030"]


def test_a_process_without_rows_takes_an_fp16_step_too() -> None:
    ours = fresh()
    optimizer = torch.optim.AdamW([{"params": ours.model.score.weight, "multiple": 1.0}])
    scaler = torch.amp.GradScaler("cpu")
    ours.model.score.weight.grad = torch.zeros_like(ours.model.score.weight)  # as the others' sum leaves it
    total = Gradients(ours, Loss(), scaler).add([], 1)
    assert total == 0
    _update(optimizer, scaler, total, 1e-3, TRAINING)


@pytest.mark.parametrize("fits", [lambda number, tokens: tokens <= 160, lambda number, tokens: number != 4])
def test_out_of_memory_retries_the_step_with_smaller_forwards(
    tmp_path: Path, fits: Callable[[int, int], bool], caplog: pytest.LogCaptureFixture
) -> None:
    """Always for large forwards, or once in the second forward of a step, whose first has left its gradients."""
    expected_losses, expected = train(tmp_path / "enough")
    ours, tried = fresh(), []
    exact = ours.logits

    def logits(packed: Packed) -> torch.Tensor:
        tried.append(len(packed.ids_T))
        if not fits(len(tried), tried[-1]):
            raise torch.cuda.OutOfMemoryError("out of memory")
        return exact(packed)

    ours.logits = logits
    losses = fit(ours, votes(12), Prompt(), TRAINING, Runtime("cpu", tmp_path, train_tokens=300), seed=5)
    np.testing.assert_allclose(losses, expected_losses, atol=1e-5)
    for name, tensor in adapter_state(ours.model, with_head=True).items():
        torch.testing.assert_close(tensor, expected[name], atol=2e-4, rtol=1e-3)
    (warning,) = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert "going on with train_tokens 150" in warning
    assert max(tried) > 160
    assert max(tried[5:]) <= 160


def test_a_single_row_out_of_memory_is_an_error(tmp_path: Path) -> None:
    def logits(packed: Packed) -> torch.Tensor:
        raise torch.cuda.OutOfMemoryError("out of memory")

    ours = fresh()
    ours.logits = logits
    with pytest.raises(TiebreakError, match=r"one row, of \d+ tokens, .* lower max_tokens"):
        fit(ours, votes(12), Prompt(), TRAINING, Runtime("cpu", tmp_path, train_tokens=300), seed=5)


def test_sharded_weights_cannot_retry_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    def logits(packed: Packed) -> torch.Tensor:
        raise torch.cuda.OutOfMemoryError("out of memory")

    ours = fresh()
    ours.logits = logits
    rows = TrainingRows(tokenize(votes(2), ours.tokenizer, Prompt()), labels_of(votes(2)), None, 100)
    monkeypatch.setattr(loop.distributed, "is_sharded", lambda: True)
    with pytest.raises(TiebreakError, match=r"take fewer tokens: --set compute\.train_tokens="):
        Gradients(ours, Loss(), torch.amp.GradScaler("cpu")).add(
            list(rows.batches(np.zeros((1, 2), int), 300)), 1
        )


def test_a_time_budget_ends_training_and_counts_over_restarts(tmp_path: Path) -> None:
    hours = TRAINING.model_copy(update={"max_hours": 1e-9})
    losses, _ = train(tmp_path / "short", training=hours)
    assert len(losses) == 1
    enough, _ = train(tmp_path / "enough", training=TRAINING.model_copy(update={"max_hours": 1.0}))
    assert losses[0] == enough[0]
    assert len(enough) > 3
    with pytest.raises(Interrupted):
        train(tmp_path / "cut", should_stop=lambda: True)
    spent = tmp_path / "cut" / "step-00000001" / "progress.json"
    spent.write_text(json.dumps(json.loads(spent.read_text()) | {"seconds": 7200.0}))
    losses, _ = train(tmp_path / "cut", training=TRAINING.model_copy(update={"max_hours": 1.0}))
    assert losses == enough[:1], "its time was over before"


@pytest.mark.parametrize("max_hours", [None, 1e-9])
def test_a_finished_training_is_not_repeated(tmp_path: Path, max_hours: float | None) -> None:
    """A task stopped after its training has the same weights when resumed."""
    training = TRAINING.model_copy(update={"max_hours": max_hours})
    expected_losses, expected = train(tmp_path, training=training)
    steps: list[int] = []
    losses, state = train(
        tmp_path, training=training, report=lambda phase, done, *_, **__: steps.append(done)
    )
    assert steps == []
    assert losses == expected_losses
    assert all(torch.equal(state[name], tensor) for name, tensor in expected.items())


def test_a_diverging_loss_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(TiebreakError, match="the loss became"):
        train(tmp_path, training=TRAINING.model_copy(update={"learning_rate": 1e30, "epochs": 3.0}))


def test_learning_rate_warms_up_and_anneals() -> None:
    training = Training(learning_rate=2.0, warmup_steps=4)
    rates = [learning_rate(step, 20, training) for step in range(20)]
    assert rates[:4] == [0.5, 1.0, 1.5, 2.0]
    assert rates[4] == 2.0
    assert rates[12] == pytest.approx(2.0 * 0.5 * (1 + math.cos(math.pi * 0.5)))
    assert all(a > b for a, b in pairwise(rates[4:]))
    assert rates[-1] > 0
