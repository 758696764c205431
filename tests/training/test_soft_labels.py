import numpy as np
import pyarrow as pa

from tiebreak.judge.logits import ModelLogits
from tiebreak.training.soft_labels import select_soft_labels, stack_teachers
from tiebreak.votes.schema import swap_answers


def scored(model: str, fold: int, train: list[str], held_out: list[str]) -> list[ModelLogits]:
    """Logits that encode their origin: [fold, number of the vote, order] in the order shown."""
    parts = ("train", "in_sample", train), ("held_out", "out_of_fold", held_out)
    return [ModelLogits(model, fold, split, origin, ids, encoded(fold, ids)) for split, origin, ids in parts]


def encoded(fold: int, ids: list[str]) -> np.ndarray:
    numbers = [int(vote[1:]) for vote in ids]
    return np.array([[[fold, n, 0], [n, fold, 1]] for n in numbers], float).reshape(-1, 2, 3)


VOTES = pa.table({"id": ["v0", "v1", "v2", "v3"]})


def test_in_sample_takes_the_folds_own_teacher_in_the_order_shown() -> None:
    logits = scored("m", 0, ["v1", "v2"], ["v0"]) + scored("m", 1, ["v0", "v2"], ["v1"])
    kept, z_NOMC = stack_teachers(VOTES, select_soft_labels(logits, "in_sample", 0), ["m"])
    assert kept["id"].to_pylist() == ["v1", "v2"]
    assert z_NOMC.shape == (2, 2, 1, 3)
    assert z_NOMC[:, :, 0].tolist() == [[[0, 1, 0], [0, 1, 1]], [[0, 2, 0], [0, 2, 1]]]


def test_out_of_fold_takes_the_teacher_that_held_the_vote_out() -> None:
    logits = [
        *scored("m", 0, ["v1", "v2", "v3"], ["v0"]),
        *scored("m", 1, ["v0", "v2", "v3"], ["v1"]),
        *scored("m", 2, ["v0", "v1", "v3"], ["v2"]),
    ]
    chosen = select_soft_labels(logits, "out_of_fold", 0)
    kept, z_NOMC = stack_teachers(VOTES, chosen, ["m"])
    assert kept["id"].to_pylist() == ["v1", "v2", "v3"]
    assert z_NOMC[:, 0, 0, 0].tolist() == [1, 2, 0]  # v3 is an extra vote: nobody held it out
    assert "v0" not in [vote for item in chosen for vote in item.ids]


def test_a_student_of_all_folds_learns_from_the_teacher_that_held_each_vote_out() -> None:
    logits = [
        *scored("m", 1, ["v0", "v2", "v3"], ["v1"]),
        *scored("m", 2, ["v0", "v1", "v3"], ["v2"]),
        *scored("m", 0, ["v1", "v2", "v3"], ["v0"]),
    ]
    kept, z_NOMC = stack_teachers(VOTES, select_soft_labels(logits, "out_of_fold", None), ["m"])
    assert kept["id"].to_pylist() == ["v0", "v1", "v2", "v3"]
    assert z_NOMC[:, 0, 0, 0].tolist() == [0, 1, 2, 0]  # v3, which nobody held out: the first fold's


def test_only_votes_that_every_teacher_scored_are_kept() -> None:
    logits = scored("m", 0, ["v1", "v2"], []) + scored("n", 0, ["v2", "v3"], [])
    kept, z_NOMC = stack_teachers(VOTES, select_soft_labels(logits, "in_sample", 0), ["m", "n"])
    assert kept["id"].to_pylist() == ["v2"]
    assert z_NOMC.shape == (1, 2, 2, 3)


def test_averaged_orders_swap_with_the_answers() -> None:
    z = np.array([[2.0, 0.0, 1.0], [-1.0, 3.0, 0.5]], np.float32)
    stored = np.stack([z[0], swap_answers(z[1])])[None]
    logits = [ModelLogits("m", 0, "train", "in_sample", ["v0"], stored)]
    _, z_NOMC = stack_teachers(VOTES, select_soft_labels(logits, "in_sample", 0), ["m"], average_orders=True)
    p = np.exp(z_NOMC[0, :, 0])
    softmax = np.exp(z) / np.exp(z).sum(-1, keepdims=True)
    expected = (softmax[0] + swap_answers(softmax[1])) / 2
    np.testing.assert_allclose(p[0], expected, atol=1e-6)
    np.testing.assert_allclose(p[1], swap_answers(expected), atol=1e-6)


def test_unlabelled_pairs_are_included_for_both_kinds() -> None:
    extra = ModelLogits("m", 0, "unlabelled", "out_of_fold", ["v3"], encoded(0, ["v3"]))
    logits = [*scored("m", 0, ["v1"], ["v0"]), extra, *scored("m", 1, ["v0"], ["v1"])]
    for kind in ("in_sample", "out_of_fold"):
        kept, _ = stack_teachers(VOTES, select_soft_labels(logits, kind, 0), ["m"])
        assert kept["id"].to_pylist() == ["v1", "v3"]
