import numpy as np
import pytest

from tiebreak.votes.sample_size import FEW, are_ties, label_sums, notices


def labels(a: float = 0, b: float = 0, tie: float = 0) -> dict[str, float]:
    return {"a": a, "b": b, "tie": tie}


def test_labels_are_summed_and_soft_ones_count_in_parts():
    hard, soft, none = np.eye(3)[[0, 0, 2]], np.array([[0.5, 0.25, 0.25]]), np.full((2, 3), np.nan)
    assert label_sums([hard, soft, none]) == labels(2.5, 0.25, 1.25)
    assert label_sums([]) == labels()


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (labels(tie=300), "all 300 votes are ties"),
        (labels(a=300), "all 300 votes prefer A"),
        (labels(b=1200), "all 1,200 votes prefer B"),
    ],
)
def test_votes_of_one_label_are_named(found, message):
    (notice,) = notices(found)
    assert notice.startswith(message)
    assert are_ties(found) == (found["tie"] > 0)


@pytest.mark.parametrize("found", [labels(100, 99), labels(0.5, tie=299.5), labels(70, 70, 60), labels()])
def test_other_votes_are_neither_ties_nor_of_one_label(found):
    assert not are_ties(found)
    assert not any("all" in notice.split()[:1] for notice in notices(found))


def test_few_votes_are_warned_of():
    (few,) = notices(labels(10, 10, 10))
    assert few.startswith("30 votes are few to learn from")
    assert [*notices(labels(FEW - 1, 1))] == []
    one_side, few = notices(labels(a=30))
    assert ("prefer A" in one_side, "few" in few) == (True, True)
    assert [notice.split(":")[0] for notice in notices(labels(tie=30))] == ["all 30 votes are ties"]
