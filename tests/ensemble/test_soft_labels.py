import numpy as np
import pyarrow as pa

from tiebreak.data.logits import to_table
from tiebreak.ensemble.soft_labels import choose, stack


def scored(model: str, fold: int, train: list[str], held_out: list[str]) -> pa.Table:
    """Logits that tell where they come from: [fold, number of the vote, order]."""
    rows = [(v, o, s) for s, ids in (("train", train), ("held_out", held_out)) for v in ids for o in (0, 1)]
    z = np.array([[fold, int(v[1:]), o] for v, o, _ in rows], np.float32)
    origin = ["in_sample" if s == "train" else "out_of_fold" for *_, s in rows]
    return to_table([r[0] for r in rows], [r[1] for r in rows], z, [r[2] for r in rows], origin, model, fold)


VOTES = pa.table({"id": ["v0", "v1", "v2", "v3"]})


def test_in_sample_takes_the_folds_own_teacher_in_the_order_shown() -> None:
    logits = pa.concat_tables([scored("m", 0, ["v1", "v2"], ["v0"]), scored("m", 1, ["v0", "v2"], ["v1"])])
    kept, z_NOMC = stack(VOTES, choose(logits, "in_sample", 0))
    assert kept["id"].to_pylist() == ["v1", "v2"]
    assert z_NOMC.shape == (2, 2, 1, 3)
    assert z_NOMC[:, :, 0].tolist() == [[[0, 1, 0], [0, 1, 1]], [[0, 2, 0], [0, 2, 1]]]


def test_out_of_fold_takes_the_teacher_that_held_the_vote_out() -> None:
    logits = pa.concat_tables(
        [
            scored("m", 0, ["v1", "v2", "v3"], ["v0"]),
            scored("m", 1, ["v0", "v2", "v3"], ["v1"]),
            scored("m", 2, ["v0", "v1", "v3"], ["v2"]),
        ]
    )
    chosen = choose(logits, "out_of_fold", 0)
    kept, z_NOMC = stack(VOTES, chosen)
    assert kept["id"].to_pylist() == ["v1", "v2", "v3"]
    assert z_NOMC[:, 0, 0, 0].tolist() == [1, 2, 0]  # v3 is an extra vote: nobody held it out
    assert "v0" not in chosen["id"].to_pylist()


def test_only_votes_that_every_teacher_scored_are_kept() -> None:
    logits = pa.concat_tables([scored("m", 0, ["v1", "v2"], []), scored("n", 0, ["v2", "v3"], [])])
    kept, z_NOMC = stack(VOTES, choose(logits, "in_sample", 0))
    assert kept["id"].to_pylist() == ["v2"]
    assert z_NOMC.shape == (1, 2, 2, 3)
