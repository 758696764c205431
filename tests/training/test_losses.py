import torch
import torch.nn.functional as F

from tiebreak.training.losses import Loss, Targets


def batch(rows: int = 9, teachers: int = 2, seed: int = 0) -> tuple[torch.Tensor, Targets]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(rows, 3, generator=generator)
    labels = F.one_hot(torch.randint(0, 3, (rows,), generator=generator), 3).float()
    return logits, Targets(labels, torch.randn(rows, teachers, 3, generator=generator) * 2)


def published(logits: torch.Tensor, targets: Targets, temperature: float) -> torch.Tensor:
    """The published form, term by term with torch's own losses: batch means, divided by five."""
    labels = targets.labels_RC.argmax(-1)
    total = F.cross_entropy(logits, labels)
    for teacher in targets.teachers_RMC.unbind(1):
        student = logits / temperature
        total = total + F.kl_div(
            student.log_softmax(-1), (teacher / temperature).softmax(-1), reduction="batchmean"
        )
        total = total + F.cosine_embedding_loss(
            student.softmax(-1), (teacher / temperature).softmax(-1), torch.ones(len(logits))
        )
    return total / 5


def test_published_loss_and_its_gradient() -> None:
    for temperature in (1.0, 2.5):
        logits, targets = batch()
        ours_in, theirs_in = logits.clone().requires_grad_(), logits.clone().requires_grad_()
        ours = Loss(0.2, 0.2, 0.2, temperature)(ours_in, targets) / len(logits)
        theirs = published(theirs_in, targets, temperature)
        ours.backward()
        theirs.backward()
        torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-6)
        torch.testing.assert_close(ours_in.grad, theirs_in.grad, atol=1e-6, rtol=1e-5)


def test_labels_only_is_cross_entropy() -> None:
    logits, targets = batch()
    expected = F.cross_entropy(logits, targets.labels_RC.argmax(-1), reduction="sum")
    torch.testing.assert_close(Loss()(logits, Targets(targets.labels_RC)), expected)
    torch.testing.assert_close(Loss()(logits, targets), expected)


def test_a_teacher_that_agrees_costs_nothing() -> None:
    logits, targets = batch(teachers=1)
    agreeing = Targets(targets.labels_RC, (logits + 3.0)[:, None])
    loss = Loss(label=0.0, kl=1.0, cosine=1.0, temperature=2.0)
    torch.testing.assert_close(loss(logits, agreeing), torch.tensor(0.0), atol=1e-5, rtol=0)
    assert loss(logits, targets) > 0.1


def test_swapping_answers_everywhere_changes_nothing() -> None:
    logits, targets = batch()
    swap = [1, 0, 2]
    swapped = Targets(targets.labels_RC[:, swap], targets.teachers_RMC[:, :, swap])
    loss = Loss(0.1, 0.9, 0.3, 5.0)
    torch.testing.assert_close(loss(logits, targets), loss(logits[:, swap], swapped))


def test_each_teacher_has_its_own_weights_and_temperature() -> None:
    logits, targets = batch()
    first, second = (Targets(targets.labels_RC, targets.teachers_RMC[:, m : m + 1]) for m in (0, 1))
    together = Loss(0.0, kl=(0.3, 2.0), cosine=(0.1, 0.0), temperature=(1.0, 5.0))
    apart = Loss(0.0, 0.3, 0.1, 1.0)(logits, first) + Loss(0.0, 2.0, 0.0, 5.0)(logits, second)
    torch.testing.assert_close(together(logits, targets), apart)


def test_smoothing_equals_torchs() -> None:
    logits, targets = batch()
    expected = F.cross_entropy(logits, targets.labels_RC.argmax(-1), reduction="sum", label_smoothing=0.1)
    torch.testing.assert_close(Loss(smoothing=0.1)(logits, Targets(targets.labels_RC)), expected)


def test_a_row_without_a_label_learns_from_teachers_alone() -> None:
    logits, targets = batch()
    labels = targets.labels_RC.clone()
    labels[4:] = float("nan")
    loss = Loss(0.5, 0.3, 0.2, 2.0, smoothing=0.1)
    got = loss(logits, Targets(labels, targets.teachers_RMC))
    labelled = loss(logits[:4], Targets(labels[:4], targets.teachers_RMC[:4]))
    taught = Loss(0.0, 0.3, 0.2, 2.0)(logits[4:], Targets(targets.labels_RC[4:], targets.teachers_RMC[4:]))
    torch.testing.assert_close(got, labelled + taught)


def test_weights_count_rows_several_times() -> None:
    logits, targets = batch()
    weights = torch.arange(len(logits)).float()
    repeat = weights.long()
    twice = Targets(*(x.repeat_interleave(repeat, 0) for x in (targets.labels_RC, targets.teachers_RMC)))
    loss = Loss(0.5, 0.3, 0.2, 2.0)
    weighted = Targets(targets.labels_RC, targets.teachers_RMC, weights)
    torch.testing.assert_close(loss(logits, weighted), loss(logits.repeat_interleave(repeat, 0), twice))
