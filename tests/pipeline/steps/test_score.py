"""Rows of step 4: the teacher's training rows come first, and only they are in-sample."""

from pathlib import Path

import pyarrow as pa
import pytest
from tiny_models import votes

from tiebreak.pipeline.steps import score
from tiebreak.recipe.schema import Prompt
from tiebreak.votes import splits
from tiebreak.votes.schema import LOCKBOX, write_table

COUNT = 200


def scored(folder: Path, taught: int, subset: int | tuple[int, int]) -> tuple[dict[str, list[str]], set[str]]:
    """The ids of each origin among the training rows to score; and the ids that step 3 teaches."""
    fold = [LOCKBOX if n % 10 == 9 else n % 3 for n in range(COUNT)]
    rows = votes(COUNT).append_column("fold", pa.array(fold, pa.int8()))
    write_table(rows, folder / "rows.parquet")
    settings = score.Settings(
        teacher="llama",
        fold=0,
        shard=0,
        shards=1,
        subset_votes=subset,
        taught_votes=taught,
        max_tokens=100,
        precision="fp32",
        prompt=Prompt(),
        seed=3,
    )
    table = score._rows_to_score(folder, settings)
    train = table.filter(pa.compute.equal(table["split"], "train"))
    by_origin: dict[str, list[str]] = {"in_sample": [], "out_of_fold": []}
    for vote, origin in zip(train["id"].to_pylist(), train["origin"].to_pylist(), strict=True):
        by_origin[origin].append(vote)
    seen = splits.subset(splits.training_votes(rows, 0), taught, splits.derive_seed(3, "teach", 0))
    return by_origin, set(seen["id"].to_pylist())


@pytest.mark.parametrize(
    ("taught", "subset", "in_sample", "others"),
    [
        (-1, -1, 120, 0),
        (-1, 30, 30, 0),
        (50, 30, 30, 0),
        (50, 80, 50, 30),
        (50, (80, 80), 50, 30),
        (50, -1, 50, 70),
    ],
)
def test_in_sample_rows_are_the_teachers_training_rows(
    tmp_path: Path, taught: int, subset: int | tuple[int, int], in_sample: int, others: int
) -> None:
    found, seen = scored(tmp_path, taught, subset)
    assert (len(found["in_sample"]), len(found["out_of_fold"])) == (in_sample, others)
    assert set(found["in_sample"]) <= seen
    assert not set(found["out_of_fold"]) & seen
