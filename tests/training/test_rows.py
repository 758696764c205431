import numpy as np
import pytest
from tiny_models import base, votes

from tiebreak.errors import TiebreakError
from tiebreak.model import classifier
from tiebreak.recipe.schema import Prompt, Training
from tiebreak.tokens.prompt import tokenize
from tiebreak.training.rows import TrainingRows, labels_of, optimizer_steps
from tiebreak.votes.schema import swap_answers


def test_both_orders_of_a_vote_share_a_step() -> None:
    steps = optimizer_steps(50, Training(rows_per_step=8, epochs=2), seed=1)
    assert len(steps) == 2 * 13
    for rows in steps:
        assert set(rows[rows[:, 1] == 0, 0]) == set(rows[rows[:, 1] == 1, 0])
    for epoch in (steps[:13], steps[13:]):
        rows = np.concatenate(epoch)
        assert len(np.unique(rows, axis=0)) == len(rows) == 100


def test_orders_apart_still_show_every_row_once() -> None:
    rows = np.concatenate(optimizer_steps(50, Training(rows_per_step=8, epochs=1, orders_together=False), 1))
    assert len(np.unique(rows, axis=0)) == len(rows) == 100


def test_steps_depend_on_the_seed_alone_and_the_cap_holds() -> None:
    training = Training(rows_per_step=8, epochs=1.5)
    first, again = optimizer_steps(40, training, 3), optimizer_steps(40, training, 3)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert len(first) == 15
    capped = optimizer_steps(40, training.model_copy(update={"max_steps": 4}), 3)
    assert all(np.array_equal(a, b) for a, b in zip(capped, first[:4], strict=True))
    with pytest.raises(TiebreakError, match="no votes"):
        optimizer_steps(0, training, 3)


@pytest.mark.parametrize("fixed", [False, True])
def test_batches_hold_every_row_of_a_step_with_its_own_targets(fixed: bool) -> None:
    table = votes(12)
    tokens = tokenize(table, classifier.load(base("llama")).tokenizer, Prompt())
    teachers = np.random.default_rng(0).normal(size=(12, 2, 2, 3)).astype(np.float32)
    rows = TrainingRows(tokens, labels_of(table), teachers, max_tokens=300)
    step = optimizer_steps(12, Training(rows_per_step=24, epochs=1), 0)[0]
    batches = list(rows.batches(step, 600, fixed))
    assert len(batches) > 1
    seen = []
    for packed, targets in batches:
        documents = list(packed.documents())
        for document, label, logits in zip(documents, targets.labels_RC, targets.teachers_RMC, strict=True):
            (vote, order), *others = [
                (v, o) for v, o in step.tolist() if np.array_equal(tokens.row(v, o, 300), document.numpy())
            ]
            assert not others
            assert np.array_equal(label, rows.labels_NOC[vote, order])
            assert np.array_equal(logits, teachers[vote, order])
            seen.append((vote, order))
    assert sorted(seen) == sorted(map(tuple, step.tolist()))


def test_labels_follow_the_swap_and_must_be_there() -> None:
    table = votes(5)
    labels = labels_of(table)
    assert np.array_equal(labels[:, 1], swap_answers(labels[:, 0]))
    unlabelled = table.set_column(table.schema.get_field_index("p_a"), "p_a", [[None] * 5])
    with pytest.raises(TiebreakError, match="5 of 5 votes have no label"):
        labels_of(unlabelled)
