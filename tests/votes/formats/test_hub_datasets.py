from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tiebreak.errors import TiebreakError
from tiebreak.votes.formats.hub_datasets import HubDataset, parse_location
from tiebreak.votes.formats.readers import read_all


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("hub:org/name", HubDataset("org/name", None, "train")),
        ("/recipes/hub:org/na.me-1:test", HubDataset("org/na.me-1", None, "test")),
        ("hub:org/name@v1.0:test", HubDataset("org/name", "v1.0", "test")),
        ("org/name", None),
        ("data/github:org/name", None),
    ],
)
def test_locations(text, expected):
    assert parse_location(Path(text)) == expected


def test_rows_come_through_the_datasets_library(tmp_path, monkeypatch):
    pytest.importorskip("datasets")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "org" / "name"  # the library takes a folder of that name for a data set
    folder.mkdir(parents=True)
    row = {"id": "7", "prompt": "p", "response_a": "a", "response_b": "b", "winner": "tie", "unused": 1}
    pq.write_table(pa.Table.from_pylist([row]), folder / "train.parquet")
    votes, rejects = read_all([Path("hub:org/name")])
    assert rejects.num_rows == 0
    assert [(vote["id"], vote["prompt"], vote["p_tie"]) for vote in votes.to_pylist()] == [("7", ["p"], 1.0)]


def test_a_missing_data_set_is_an_error(tmp_path, monkeypatch):
    pytest.importorskip("datasets")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(TiebreakError, match="no-such/set"):
        read_all([Path("hub:no-such/set")])
