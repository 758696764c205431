import pyarrow as pa
import pytest

from tiebreak.commands.output_rows import own_types
from tiebreak.commands.row_progress import count_rows
from tiebreak.votes.formats.containers import records
from tiebreak.votes.parquet import batches, writer
from tiebreak.votes.schema import read_table, write_table

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


@pytest.mark.parametrize("name", ["\udcff", "s3:bucket", "file:x", "a=1", "x?y#z", "%41"])
def test_a_name_is_a_name(tmp_path, name):
    """It need not be UTF-8, and is no address."""
    table, path = pa.table({"x": [1, 2]}), tmp_path / name / f"{name}.parquet"
    path.parent.mkdir()
    write_table(table, path)
    assert read_table(path) == table
    assert [batch["x"].to_pylist() for batch in batches(path)] == [[1, 2]]
    assert [record for _, record in records(path)] == table.to_pylist()
    assert count_rows([path]) == 2
    assert own_types([path], ()) == table.schema
