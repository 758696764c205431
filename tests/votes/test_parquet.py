import pyarrow as pa
import pytest

from tiebreak.votes.parquet import batches, writer

SCHEMA = pa.schema([("x", pa.int64())])


def test_what_is_written_is_read_back_in_order(tmp_path):
    with writer(tmp_path / "file", SCHEMA) as parquet:
        for start in (0, 10):
            parquet.write_batch(pa.record_batch({"x": list(range(start, start + 10))}, SCHEMA))
    found = list(batches(tmp_path / "file", rows=7))
    assert [n for batch in found for n in batch["x"].to_pylist()] == list(range(20))
    assert max(batch.num_rows for batch in found) == 7


def test_an_error_leaves_nothing_and_what_was_there_untouched(tmp_path):
    (tmp_path / "file").write_text("old")

    def fail():
        with writer(tmp_path / "file", SCHEMA) as parquet:
            parquet.write_batch(pa.record_batch({"x": [1]}, SCHEMA))
            raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        fail()
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text() == "old"
