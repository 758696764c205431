import pyarrow as pa
import pytest

from tiebreak.votes import splits
from tiebreak.votes.schema import CALIBRATION, EXTRA, LOCKBOX

ROWS = pa.table(
    {
        "id": [f"r{n}" for n in range(9)],
        "fold": pa.array([0, 1, 2, 0, LOCKBOX, EXTRA, 1, LOCKBOX, CALIBRATION], pa.int8()),
    }
)


def ids(table: pa.Table) -> list[str]:
    return table["id"].to_pylist()


def test_sides_of_a_fold() -> None:
    assert ids(splits.training_votes(ROWS, 0)) == ["r1", "r2", "r5", "r6"]
    assert ids(splits.held_out(ROWS, 0)) == ["r0", "r3"]
    assert ids(splits.lockbox(ROWS)) == ["r4", "r7"]
    assert ids(splits.calibration(ROWS)) == ["r8"]


def test_groups_are_called_by_their_fold_or_side() -> None:
    labels = pa.array([1.0] * 8 + [None], pa.float32())
    assert splits.groups_of(ROWS.append_column("p_a", labels)) == {
        "fold0", "fold1", "fold2", "lockbox", "extra", "calibration",
    }  # fmt: skip
    pairs = pa.table(
        {"fold": pa.array([EXTRA, EXTRA], pa.int8()), "p_a": pa.array([None, 1.0], pa.float32())}
    )
    assert splits.groups_of(pairs) == {"extra", "unlabelled"}
    assert splits.groups_of(pairs.slice(0, 1)) == {"unlabelled"}
    assert splits.groups_of(pairs.slice(0, 0)) == set()


def test_a_subset_is_seeded_and_keeps_its_order() -> None:
    first = ids(splits.subset(ROWS, 3, 5))
    assert first == ids(splits.subset(ROWS, 3, 5)) == sorted(first)
    assert len({tuple(ids(splits.subset(ROWS, 3, seed))) for seed in range(20)}) > 5
    assert ids(splits.subset(ROWS, -1, 5)) == ids(splits.subset(ROWS, 99, 5)) == ids(ROWS)


@pytest.mark.parametrize("fewer", [1, 30, 347, 999])
def test_a_smaller_subset_is_part_of_a_larger_one(fewer: int) -> None:
    rows = pa.table({"id": [f"r{n}" for n in range(2000)]})
    one, other = (set(ids(splits.subset(rows, count, 5))) for count in (fewer, 1000))
    assert len(one) == fewer
    assert one < other


def test_only_what_a_model_was_trained_on_is_in_sample() -> None:
    side, lockbox = ROWS.slice(0, 4), ROWS.slice(4, 1)
    table = splits.tag_splits({"train": side, "lockbox": lockbox}, trained_on=side.slice(1, 2))
    assert table["split"].to_pylist() == ["train"] * 4 + ["lockbox"]
    assert table["origin"].to_pylist() == ["out_of_fold", "in_sample", "in_sample"] + ["out_of_fold"] * 2
    assert set(splits.tag_splits({"lockbox": lockbox})["origin"].to_pylist()) == {"out_of_fold"}


def test_seeds_differ_by_use() -> None:
    seeds = {splits.derive_seed(0, step, fold) for step in ("teach", "distill") for fold in range(5)}
    assert len(seeds) == 10
    assert (
        splits.derive_seed(0, "teach", 1)
        == splits.derive_seed(0, "teach", 1)
        != splits.derive_seed(1, "teach", 1)
    )
