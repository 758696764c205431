"""Streaming Parquet input and output in bounded memory, written atomically."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq


@contextmanager
def writer(path: Path, schema: pa.Schema) -> Iterator[pq.ParquetWriter]:
    """A Parquet writer under a temporary name, renamed at the end, removed if anything raises."""
    partial = path.with_name(path.name + ".partial")
    try:
        with pq.ParquetWriter(partial, schema, compression="zstd") as parquet:
            yield parquet
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def batches(path: Path, columns: Sequence[str] | None = None, rows: int = 4096) -> Iterator[pa.RecordBatch]:
    """Stream the batches of a Parquet file that this project wrote."""
    with pq.ParquetFile(path, pre_buffer=False) as file:
        yield from file.iter_batches(rows, columns=columns, use_threads=False)
