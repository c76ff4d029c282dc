"""Archives of published numbers: whole tables of others as Parquet, in the columns of the CSV files and under the same rules.

`reports/archive_references.py` makes them from the repositories that published the numbers. Tests check every row as those of CSV files are
checked when they are read; here they are only read.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from robustvit.errors import UsageError
from robustvit.records.parquet import frame_of, read_table
from robustvit.results.published.files import COLUMNS, folder

_FOLDER = "archives"


def archived() -> pd.DataFrame:
    """Every archived number that ships, in COLUMNS; an empty table where none ships."""
    tables = [read_archive(path) for path in sorted((folder() / _FOLDER).glob("*.parquet"))]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=list(COLUMNS)).astype(COLUMNS)


def read_archive(path: Path) -> pd.DataFrame:
    """The numbers of one archive. Raises UsageError for a file that is none."""
    try:
        return frame_of(read_table(path.read_bytes()))[list(COLUMNS)].astype(COLUMNS)
    except (OSError, pa.ArrowException, KeyError) as error:
        raise UsageError(f"{path.name} cannot be read as an archive of published numbers: {error}") from error


def write_archive(rows: pd.DataFrame, path: Path) -> None:
    """Writes numbers, in COLUMNS, as Parquet: dictionaries for texts that repeat, zstd; the same rows give the same bytes."""
    table = pa.Table.from_pandas(rows[list(COLUMNS)].astype(COLUMNS), preserve_index=False).replace_schema_metadata(None)
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, compression="zstd", compression_level=19, use_dictionary=True, write_statistics=False, store_schema=False)
