"""Streaming Parquet input and output in bounded memory, written atomically."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tiebreak.output import replacing


def opened(path: Path) -> pa.NativeFile:
    """A file to read by the bytes of its name, whatever they are: a name alone may also be taken for the address of a store."""
    return pa.OSFile(os.fsencode(path))


@contextmanager
def writer(path: Path, schema: pa.Schema) -> Iterator[pq.ParquetWriter]:
    """A Parquet writer of a file that takes its place at the end, and is removed if anything raises."""
    with replacing(path) as file, pq.ParquetWriter(file, schema, compression="zstd") as parquet:
        yield parquet


def batches(path: Path, columns: Sequence[str] | None = None, rows: int = 4096) -> Iterator[pa.RecordBatch]:
    """Stream the batches of a Parquet file that this project wrote."""
    with pq.ParquetFile(opened(path), pre_buffer=False) as file:
        yield from file.iter_batches(rows, columns=columns, use_threads=False)
