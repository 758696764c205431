import numpy as np
import pyarrow as pa
import pytest

from tiebreak.errors import TiebreakError
from tiebreak.evaluate import model_logits
from tiebreak.judge.logits import to_table
from tiebreak.stats.calibration import from_json
from tiebreak.votes.schema import swap_answers, write_table


def table(ids: list[str], z_N2C: np.ndarray, split: str = "lockbox", fold: int | None = 0) -> pa.Table:
    n = len(ids)
    z = np.concatenate([z_N2C[:, 0], swap_answers(z_N2C[:, 1])])
    return to_table(ids * 2, [0] * n + [1] * n, z, [split] * 2 * n, ["out_of_fold"] * 2 * n, "m", fold)


@pytest.fixture
def z() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(5, 2, 3)).astype(np.float32)


def test_shards_are_joined_and_the_swap_is_undone(tmp_path, z):
    for shard, rows in enumerate(([0, 1, 2], [3, 4])):
        (tmp_path / str(shard)).mkdir()
        write_table(table([f"v{n}" for n in rows], z[rows]), tmp_path / str(shard) / "logits.parquet")
    (scored,) = model_logits.read([tmp_path / "0", tmp_path / "1"], [{"temperature": 1.5}] * 2)
    np.testing.assert_allclose(scored.aligned(["v4", "v0"]).z_NOC, z[[4, 0]])
    assert (scored.model, scored.fold, scored.split, scored.calibrator.temperature_) == (
        "m",
        0,
        "lockbox",
        1.5,
    )


def test_models_and_splits_are_kept_apart(tmp_path, z):
    parts = [table(["a"], z[:1]), table(["a"], z[1:2], fold=None), table(["b"], z[2:3], split="train")]
    write_table(pa.concat_tables(parts), tmp_path / "logits.parquet")
    found = {(item.fold, item.split): item for item in model_logits.read([tmp_path])}
    assert set(found) == {(0, "lockbox"), (None, "lockbox"), (0, "train")}
    np.testing.assert_allclose(found[None, "lockbox"].z_NOC, z[1:2])


def test_a_missing_vote_is_named(z):
    scored = model_logits.ModelLogits("m", 1, "lockbox", "out_of_fold", ["a", "b"], z[:2])
    with pytest.raises(TiebreakError, match=r"m \(fold 1\) scored 1 of 2 lockbox votes; 'c' is missing"):
        scored.aligned(["b", "c"])


def test_swapping_the_answers_swaps_the_probabilities_to_the_last_bit(z):
    warm = from_json({"temperature": 1.3})
    one = model_logits.ModelLogits("m", 1, "lockbox", "out_of_fold", list("abcde"), z.astype(float), warm)
    other = model_logits.ModelLogits(
        "m", 1, "lockbox", "out_of_fold", one.ids, swap_answers(one.z_NOC)[:, ::-1], warm
    )
    p, q = (item.probabilities(both_orders=True, calibrated=True) for item in (one, other))
    assert (swap_answers(q) == p).all()
