"""Reading Parquet on the thread that asks.

A thread of Arrow's pools that still holds bytes of Python's when the interpreter ends aborts the process (`terminate called without an
active exception`, once in some hundred short programs on a busy machine). Files of 512 rows gain nothing by threads.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq


@contextmanager
def open_parquet(source: Path | pa.NativeFile) -> Iterator[pq.ParquetFile]:
    """A Parquet file, the checksums of whose pages are verified as they are read."""
    with pq.ParquetFile(source, page_checksum_verification=True) as file:
        yield file


def table_of(file: pq.ParquetFile, columns: Sequence[str] | None = None) -> pa.Table:
    """Its rows: those of the named columns that it has, of all by default."""
    names = set(file.schema_arrow.names)
    return file.read(columns=None if columns is None else [name for name in columns if name in names], use_threads=False)


def read_table(content: bytes) -> pa.Table:
    """The rows of a file's content. Raises what pyarrow does where it is no Parquet file, or a checksum does not match."""
    with open_parquet(pa.BufferReader(content)) as file:
        return table_of(file)


def frame_of(table: pa.Table) -> pd.DataFrame:
    """The rows of a table in pandas."""
    frame: pd.DataFrame = table.to_pandas(use_threads=False)
    return frame
