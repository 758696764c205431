"""Parquet shards of tokenised votes, written from files of votes in bounded memory.

A shard has one row per vote: its id and label, and of prompt, response_a and response_b the tokens and the
position of the last turn. Its metadata hold the template's tokens and the settings.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from shutil import rmtree

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from transformers import PreTrainedTokenizerBase

from tiebreak.errors import TiebreakError
from tiebreak.output import new_folder
from tiebreak.recipe.schema import Prompt
from tiebreak.tokens.prompt import Ragged, TokenizedVotes, tokenize
from tiebreak.votes.formats import readers
from tiebreak.votes.parquet import writer
from tiebreak.votes.schema import write_table

_TEXTS = ("prompt", "response_a", "response_b")
_COPIED = ("id", "p_a", "p_b", "p_tie", "weight")
_METADATA = b"tiebreak"


def write_files(
    files: Sequence[Path], folder: Path, tokenizer: PreTrainedTokenizerBase, prompt: Prompt
) -> dict[str, int]:
    """Read votes of any format into a new folder of shards; bad rows go to its rejects.parquet.

    Returns the numbers of records, votes, rejects and shards. Raises TiebreakError if the folder exists,
    a file cannot be read or breaks off, or there are no votes; then nothing is left behind.
    """
    if folder.exists():
        raise TiebreakError(f"{folder} is already there; name a new folder, or remove it")
    partial = folder.with_name(folder.name + ".partial")
    rmtree(partial, ignore_errors=True)
    new_folder(partial)
    records = 0
    kinds: Counter[str] = Counter()

    def votes() -> Iterator[pa.RecordBatch]:
        nonlocal records
        with writer(partial / "rejects.parquet", readers.REJECTS_SCHEMA) as rejects_file:
            for batch in readers.read(files):
                records += batch.records
                kinds.update(readers.kinds_of(batch.rejects))
                readers.require_complete(batch.rejects)
                rejects_file.write_table(readers.rejects_table(batch.rejects))
                if batch.votes.num_rows:
                    yield batch.votes

    try:
        shards = list(write(votes(), partial, tokenizer, prompt))
        if not shards:
            raise readers.no_votes(map(str, files), kinds)
        partial.replace(folder)
    finally:
        rmtree(partial, ignore_errors=True)
    return {
        "records": records,
        "votes": sum(rows for _, rows in shards),
        "rejects": kinds.total(),
        "shards": len(shards),
    }


def write(
    votes: Iterable[pa.RecordBatch], folder: Path, tokenizer: PreTrainedTokenizerBase, prompt: Prompt
) -> Iterator[tuple[Path, int]]:
    """Tokenise batches of votes (votes.schema.SCHEMA, or more columns), each into a shard; yields it and its rows."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, batch in enumerate(votes):
        path = folder / f"shard-{number:05d}.parquet"
        tokens = tokenize(pa.Table.from_batches([batch]), tokenizer, prompt)
        write_table(_to_table(batch, tokens), path)
        yield path, batch.num_rows


def read(shard: Path) -> tuple[list[str], TokenizedVotes]:
    """Read the ids and tokens of a shard. Raises TiebreakError if the file is no shard."""
    table = pq.read_table(shard)
    metadata = (table.schema.metadata or {}).get(_METADATA)
    if metadata is None:
        raise TiebreakError(f"{shard} holds no tokenised votes")
    stored = json.loads(metadata)
    prompts, a, b = (_ragged(table, text) for text in _TEXTS)
    head, *between, gap = (np.array(piece, dtype=np.int32) for piece in stored["pieces"])
    tokens = TokenizedVotes(prompts, (a, b), (head, *between), gap, Prompt.model_validate(stored["prompt"]))
    return table["id"].to_pylist(), tokens


def _to_table(votes: pa.RecordBatch, tokens: TokenizedVotes) -> pa.Table:
    columns = {name: votes[name] for name in _COPIED}
    for text, ragged in zip(_TEXTS, (tokens.prompts, *tokens.answers), strict=True):
        columns[text] = pa.LargeListArray.from_arrays(pa.array(ragged.offsets), pa.array(ragged.values_T))
        columns[f"{text}_last"] = pa.array(ragged.last)
    pieces = [piece.tolist() for piece in (*tokens.frame, tokens.gap)]
    metadata = json.dumps({"pieces": pieces, "prompt": tokens.settings.model_dump()})
    return pa.table(columns).replace_schema_metadata({_METADATA: metadata.encode()})


def _ragged(table: pa.Table, text: str) -> Ragged:
    column = table[text].combine_chunks()
    lists = column.chunk(0) if isinstance(column, pa.ChunkedArray) else column
    return Ragged(lists.values.to_numpy(), lists.offsets.to_numpy(), table[f"{text}_last"].to_numpy())
