"""A store as one DuckDB file with the views cells, rows and questions."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pyarrow as pa

from robustvit.errors import MissingExtra
from robustvit.results.data_sets.folder import whole_folder
from robustvit.results.data_sets.stored_tables import CELLS, NAMES, StoredTables, aligned, cell_row

FILE = "records.duckdb"
_VIEWS = """
create view cells as select * exclude (cell_id) from cell_facts;
create view questions as select * from question_facts;
create view rows as select c.cell, {names}, s.sample, r.* exclude (cell_id, sample_id)
  from row_data r join cell_facts c using (cell_id) join sample_ids s using (sample_id);
"""


def write_duckdb_folder(tables: StoredTables, to: Path | str) -> Path:
    """Writes `records.duckdb` into a new folder; returns the file. Its tables are for the views; rows have no order.

    Raises MissingExtra without duckdb, UsageError for a place that holds something, StoreFull, StoreDamaged.
    """
    try:
        import duckdb
    except ModuleNotFoundError as error:
        raise MissingExtra("a DuckDB file needs duckdb: python3 -m pip install 'robustvit[duckdb]'.") from error
    with whole_folder(to, "--to") as folder:
        try:
            with duckdb.connect(str(folder / FILE), config={"threads": 1}) as connection:
                _fill(connection, tables)
        except duckdb.Error as error:
            full = os.strerror(errno.ENOSPC) in str(error)  # also where a transaction cannot be committed
            if not full and not isinstance(error, duckdb.IOException):
                raise
            raise OSError(errno.ENOSPC if full else errno.EIO, str(error).splitlines()[0]) from error
    return Path(to) / FILE


def _fill(connection: Any, tables: StoredTables) -> None:
    columns = tables.columns()
    held = pa.schema([("cell_id", pa.int32()), ("sample_id", pa.int32()), *(one for one in columns if one.name != "sample")])
    _create(connection, "row_data", held.empty_table())
    cells: list[dict[str, Any]] = []
    samples: dict[str, int] = {}
    for question, found, rows in tables.rows():
        cells.append({"cell_id": len(cells), **cell_row(question, found)})
        if len(rows):
            places = [samples.setdefault(name, len(samples)) for name in rows["sample"].to_pylist()]
            own = aligned(rows, columns).drop_columns(["sample"])
            numbers = pa.array([len(cells) - 1] * len(rows), pa.int32()), pa.array(places, pa.int32())
            _insert(connection, "row_data", pa.table([*numbers, *own.columns], schema=held))
    _create(connection, "sample_ids", pa.table({"sample_id": pa.array(range(len(samples)), pa.int32()), "sample": [*samples]}))
    _create(connection, "cell_facts", pa.Table.from_pylist(cells, pa.schema([("cell_id", pa.int32()), *CELLS])))
    _create(connection, "question_facts", tables.question_table())
    connection.execute(_VIEWS.format(names=", ".join(f"c.{name}" for name in NAMES)))


def _create(connection: Any, name: str, table: pa.Table) -> None:
    connection.register("given", table)
    connection.execute(f"create table {name} as select * from given")
    connection.unregister("given")


def _insert(connection: Any, name: str, table: pa.Table) -> None:
    connection.register("given", table)
    connection.execute(f"insert into {name} select * from given")
    connection.unregister("given")
