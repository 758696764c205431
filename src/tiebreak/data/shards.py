"""Votes as tokens on disk, in bounded memory: a Parquet file of votes in, shards of tokens out.

A shard has a row a vote: its id, and of prompt, response_a and response_b the tokens and where the last turn
begins. Its metadata hold the template's tokens and the settings.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from transformers import PreTrainedTokenizerBase

from tiebreak.data.prompt import Ragged, TokenizedVotes, tokenize
from tiebreak.data.streaming import batches
from tiebreak.data.votes import write_table
from tiebreak.errors import TiebreakError
from tiebreak.recipe import Prompt

_TEXTS = ("prompt", "response_a", "response_b")
_ABOUT = b"tiebreak"


def write(
    votes: Path, folder: Path, tokenizer: PreTrainedTokenizerBase, prompt: Prompt, rows: int = 16_384
) -> Iterator[Path]:
    """Tokenise a file of votes (data.votes.SCHEMA, or more) into shards of at most `rows` votes."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, batch in enumerate(batches(votes, ["id", *_TEXTS], rows)):
        path = folder / f"{number:05d}.parquet"
        tokens = tokenize(pa.Table.from_batches([batch]), tokenizer, prompt)
        write_table(_to_table(batch["id"], tokens), path)
        yield path


def read(shard: Path) -> tuple[list[str], TokenizedVotes]:
    """Ids and tokens of a shard. Raises TiebreakError if the file is none."""
    table = pq.read_table(shard)
    about = (table.schema.metadata or {}).get(_ABOUT)
    if about is None:
        raise TiebreakError(f"{shard} holds no tokenised votes")
    known = json.loads(about)
    prompts, a, b = (_ragged(table, text) for text in _TEXTS)
    head, *between, gap = (np.array(piece, dtype=np.int32) for piece in known["pieces"])
    tokens = TokenizedVotes(prompts, (a, b), (head, *between), gap, Prompt.model_validate(known["prompt"]))
    return table["id"].to_pylist(), tokens


def _to_table(ids: pa.Array, tokens: TokenizedVotes) -> pa.Table:
    columns = {"id": ids}
    for text, ragged in zip(_TEXTS, (tokens.prompts, *tokens.answers), strict=True):
        columns[text] = pa.LargeListArray.from_arrays(pa.array(ragged.offsets), pa.array(ragged.values_T))
        columns[f"{text}_last"] = pa.array(ragged.last)
    pieces = [piece.tolist() for piece in (*tokens.frame, tokens.gap)]
    about = json.dumps({"pieces": pieces, "prompt": tokens.settings.model_dump()})
    return pa.table(columns).replace_schema_metadata({_ABOUT: about.encode()})


def _ragged(table: pa.Table, text: str) -> Ragged:
    column = table[text].combine_chunks()
    lists = column.chunk(0) if isinstance(column, pa.ChunkedArray) else column
    return Ragged(lists.values.to_numpy(), lists.offsets.to_numpy(), table[f"{text}_last"].to_numpy())
