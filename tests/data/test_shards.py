import numpy as np
import pytest
from models import base, votes

from tiebreak.data import shards
from tiebreak.data.prompt import tokenize
from tiebreak.data.votes import write_table
from tiebreak.errors import TiebreakError
from tiebreak.model import classifier
from tiebreak.recipe import Prompt


@pytest.mark.parametrize("truncation", ["published", "balanced"])
def test_shards_hold_the_tokens_in_order(tmp_path, truncation):
    table = votes(50)
    write_table(table, tmp_path / "votes.parquet")
    tokenizer = classifier.load(base("llama")).tokenizer
    prompt = Prompt(truncation=truncation, prompt_tokens=20)
    written = list(shards.write(tmp_path / "votes.parquet", tmp_path / "shards", tokenizer, prompt, rows=20))
    assert [path.name for path in written] == ["00000.parquet", "00001.parquet", "00002.parquet"]
    whole = tokenize(table, tokenizer, prompt)
    seen = []
    for path in written:
        ids, tokens = shards.read(path)
        for vote in range(len(tokens)):
            row = tokens.row(vote, 1, 100)
            assert np.array_equal(row, whole.row(len(seen), 1, 100))
            assert row.dtype == np.int32
            seen.append(ids[vote])
    assert seen == table["id"].to_pylist()


def test_other_files_are_no_shards(tmp_path):
    write_table(votes(1), tmp_path / "votes.parquet")
    with pytest.raises(TiebreakError, match="holds no tokenised votes"):
        shards.read(tmp_path / "votes.parquet")
