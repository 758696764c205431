import numpy as np
import pyarrow as pa
import pytest

from tiebreak.errors import TiebreakError
from tiebreak.judge.logits import (
    LOGITS_SCHEMA,
    ModelLogits,
    from_table,
    mean_over_orders,
    pool,
    read,
    softmax,
    to_table,
)
from tiebreak.stats.calibration import from_json
from tiebreak.votes.schema import swap_answers, write_table


def table(ids: list[str], z_NOC: np.ndarray, split: str = "lockbox", fold: int | None = 0) -> pa.Table:
    votes = pa.table({"id": ids, "split": [split] * len(ids), "origin": ["out_of_fold"] * len(ids)})
    return to_table(votes, z_NOC, "m", fold)


@pytest.fixture
def z() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(5, 2, 3)).astype(np.float32)


def test_rows_hold_the_answers_in_the_order_shown(z: np.ndarray) -> None:
    logits = table(["x", "y"], np.array([[[7, 8, 9], [2, 1, 3]], [[4, 5, 6], [1, 0, 2]]]))
    assert logits.schema == LOGITS_SCHEMA
    assert logits.select(["id", "order", "z_first", "z_second", "z_tie"]).to_pylist() == [
        {"id": "x", "order": 0, "z_first": 7, "z_second": 8, "z_tie": 9},
        {"id": "x", "order": 1, "z_first": 1, "z_second": 2, "z_tie": 3},
        {"id": "y", "order": 0, "z_first": 4, "z_second": 5, "z_tie": 6},
        {"id": "y", "order": 1, "z_first": 0, "z_second": 1, "z_tie": 2},
    ]


def test_the_swap_is_undone_whatever_the_order_of_rows() -> None:
    z_NOC = np.array([[[7, 8, 9], [2, 1, 3]], [[4, 5, 6], [1, 0, 2]]])
    (scored,) = from_table(table(["x", "y"], z_NOC).take([3, 0, 2, 1]))
    assert scored.ids == ["y", "x"]
    assert np.array_equal(scored.z_NOC, z_NOC[::-1])


def test_a_row_twice_or_a_missing_order_is_an_error(z: np.ndarray) -> None:
    logits = table(["x", "y"], z[:2])
    for rows in ([0, 0], [0, 1, 2]):
        with pytest.raises(ValueError, match="rows of logits"):
            list(from_table(logits.take(rows)))


def test_shards_are_joined(tmp_path, z: np.ndarray) -> None:
    for shard, rows in enumerate(([0, 1, 2], [3, 4])):
        (tmp_path / str(shard)).mkdir()
        write_table(table([f"v{n}" for n in rows], z[rows]), tmp_path / str(shard) / "logits.parquet")
    state = {"temperature": 1.5, "fitted_on": "held_out"}
    (scored,) = read([tmp_path / "0", tmp_path / "1"], state)
    np.testing.assert_array_equal(scored.aligned(["v4", "v0"]).z_NOC, z[[4, 0]])
    assert (scored.model, scored.fold, scored.split) == ("m", 0, "lockbox")
    assert (scored.calibrator.temperature_, scored.calibrated_on) == (1.5, "held_out")


def test_models_and_splits_are_kept_apart(z: np.ndarray) -> None:
    parts = [table(["a"], z[:1]), table(["a"], z[1:2], fold=None), table(["b"], z[2:3], split="train")]
    found = {(item.fold, item.split): item for item in from_table(pa.concat_tables(parts))}
    assert list(found) == [(0, "lockbox"), (None, "lockbox"), (0, "train")]
    np.testing.assert_array_equal(found[None, "lockbox"].z_NOC, z[1:2])


def test_a_missing_vote_is_named(z: np.ndarray) -> None:
    scored = ModelLogits("m", 1, "lockbox", "out_of_fold", ["a", "b"], z[:2])
    with pytest.raises(TiebreakError, match=r"m \(fold 1\) scored 1 of 2 lockbox votes; 'c' is missing"):
        scored.aligned(["b", "c"])


def test_folds_on_different_votes_are_pooled(z: np.ndarray) -> None:
    one = ModelLogits("m", 1, "held_out", "out_of_fold", ["a", "b"], z[:2])
    other = ModelLogits("m", 0, "held_out", "out_of_fold", ["d", "c"], z[2:4])
    pooled = pool([one, other])
    assert pooled.fold is None
    assert np.array_equal(pooled.aligned(["c", "a"]).z_NOC, z[[3, 0]])
    assert pooled.among({"d", "b", "x"}).ids == ["b", "d"]
    with pytest.raises(ValueError, match="scored twice"):
        pool([one, other, one])


def test_swapping_the_answers_swaps_the_probabilities_to_the_last_bit(z: np.ndarray) -> None:
    warm = from_json({"temperature": 1.3})
    one = ModelLogits("m", 1, "lockbox", "out_of_fold", list("abcde"), z.astype(float), warm)
    other = ModelLogits("m", 1, "lockbox", "out_of_fold", one.ids, swap_answers(one.z_NOC)[:, ::-1], warm)
    p, q = (item.probabilities(both_orders=True, calibrated=True) for item in (one, other))
    assert (swap_answers(q) == p).all()


def test_mean_over_orders_is_a_mean_of_probabilities() -> None:
    z_NOC = np.random.default_rng(0).normal(size=(5, 2, 3)) * 4
    expected = (np.exp(z_NOC) / np.exp(z_NOC).sum(-1, keepdims=True)).mean(1)
    np.testing.assert_allclose(mean_over_orders(z_NOC), expected, atol=1e-12)
    np.testing.assert_allclose(softmax(z_NOC + 1000), softmax(z_NOC), atol=1e-9)
