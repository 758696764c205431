import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from tiny_models import base, votes

from tiebreak.errors import TiebreakError
from tiebreak.model import classifier
from tiebreak.recipe.schema import Prompt
from tiebreak.tokens import shards
from tiebreak.tokens.prompt import tokenize
from tiebreak.votes.schema import write_table


@pytest.mark.parametrize("truncation", ["published", "balanced"])
def test_shards_hold_the_tokens_in_order(tmp_path, truncation):
    table = votes(50)
    tokenizer = classifier.load(base("llama")).tokenizer
    prompt = Prompt(truncation=truncation, prompt_tokens=20)
    batches = table.to_batches(max_chunksize=20)
    written = list(shards.write(batches, tmp_path / "shards", tokenizer, prompt))
    assert [(path.name, rows) for path, rows in written] == [
        ("shard-00000.parquet", 20),
        ("shard-00001.parquet", 20),
        ("shard-00002.parquet", 10),
    ]
    whole = tokenize(table, tokenizer, prompt)
    seen = []
    for path, _ in written:
        ids, tokens = shards.read(path)
        for vote in range(len(tokens)):
            row = tokens.row(vote, 1, 100)
            assert np.array_equal(row, whole.row(len(seen), 1, 100))
            assert row.dtype == np.int32
            seen.append(ids[vote])
    assert seen == table["id"].to_pylist()


def test_files_become_a_folder_of_shards_with_labels_and_rejects(tmp_path):
    table = votes(50)
    rows = [row | {"p_a": 0.0, "p_b": 0.0, "p_tie": 1.0} for row in table.to_pylist()]
    del rows[7]["prompt"]
    (tmp_path / "votes.jsonl").write_text("\n".join(map(json.dumps, rows)))
    tokenizer = classifier.load(base("llama")).tokenizer
    folder = tmp_path / "shards"
    counts = shards.write_files([tmp_path / "votes.jsonl"], folder, tokenizer, Prompt())
    assert counts == {"records": 50, "votes": 49, "rejects": 1, "shards": 1}
    shard = pq.read_table(folder / "shard-00000.parquet")
    assert shard["p_tie"].to_pylist() == [1.0] * 49
    assert pq.read_table(folder / "rejects.parquet")["row"].to_pylist() == [8]
    ids, tokens = shards.read(folder / "shard-00000.parquet")
    whole = tokenize(table, tokenizer, Prompt())
    assert ids[7] == rows[8]["id"]
    assert np.array_equal(tokens.row(7, 0, 1000), whole.row(8, 0, 1000))
    with pytest.raises(TiebreakError, match="already there"):
        shards.write_files([tmp_path / "votes.jsonl"], folder, tokenizer, Prompt())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,text\n1,hello\n", "has the columns"),
        ('[{"prompt": "q", "response_a": "x", "response_b": "y", "winner": "tie"}', "from here on"),
        ("prompt,response_a,response_b,winner\nq,x,y,left\n", "no usable votes in .*: 1 unknown winner"),
    ],
)
def test_a_file_that_cannot_be_read_leaves_no_folder(tmp_path, text, message):
    (tmp_path / "votes.csv").write_text(text)
    with pytest.raises(TiebreakError, match=message):
        shards.write_files(
            [tmp_path / "votes.csv"], tmp_path / "shards", classifier.load(base("llama")).tokenizer, Prompt()
        )
    assert [path.name for path in tmp_path.iterdir()] == ["votes.csv"]


def test_other_files_are_no_shards(tmp_path):
    write_table(votes(1), tmp_path / "votes.parquet")
    with pytest.raises(TiebreakError, match="holds no tokenised votes"):
        shards.read(tmp_path / "votes.parquet")


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").touch()
    tokenizer = classifier.load(base("llama")).tokenizer
    with pytest.raises(TiebreakError, match=r"cannot write to the folder .*file/shards"):
        shards.write_files([tmp_path / "file"], tmp_path / "file" / "shards", tokenizer, Prompt())
