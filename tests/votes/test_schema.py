import numpy as np
import pyarrow as pa

from tiebreak.votes.schema import rows_of, swap_answers


def test_the_classes_a_and_b_are_exchanged_where_the_mask_says() -> None:
    x = np.arange(12).reshape(2, 2, 3)
    assert swap_answers(x).tolist() == [[[1, 0, 2], [4, 3, 5]], [[7, 6, 8], [10, 9, 11]]]
    assert swap_answers(x, [False, True]).tolist() == [[[0, 1, 2], [4, 3, 5]], [[6, 7, 8], [10, 9, 11]]]
    assert swap_answers(np.float32([0, 1, 2])).dtype == np.float32


def test_rows_come_in_the_order_of_the_ids() -> None:
    table = pa.table({"id": ["a", "b", "c"], "n": [0, 1, 2]})
    assert rows_of(table, ["c", "a"])["n"].to_pylist() == [2, 0]
