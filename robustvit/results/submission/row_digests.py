"""The digest of the rows of a cell, which does not depend on the files that they lie in."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from robustvit.records.compacted.cell_files import read_rows
from robustvit.records.records import cover, file_rows
from robustvit.records.store import Store
from robustvit.spec.sample_order import SHARD


def cell_digest(store: Store, cell: str, asked: int) -> str:
    """The sha256 of the first `asked` rows of a cell that are there, in evaluation order, with names and types of their columns by name.

    The reason is part of it, where the cell failed. Raises StoreDamaged where a file is not whole.
    """
    tables = read_rows(list(file_rows(cover(store.files(cell)))), None)[0]
    rows = pa.concat_tables([one.replace_schema_metadata(None) for one in tables], promote_options="default") if tables else pa.table({})
    rows = rows.slice(0, asked)
    columns = [(name, str(rows.schema.field(name).type)) for name in sorted(rows.column_names)]
    found = hashlib.sha256(json.dumps([rows.num_rows, columns, store.failure(cell)]).encode())
    for start in range(0, rows.num_rows, SHARD):
        block = rows.slice(start, SHARD).combine_chunks()
        for name, _ in columns:
            _add(found, block[name].chunk(0))
    return found.hexdigest()


def _add(found: hashlib._Hash, values: pa.Array) -> None:
    """Adds the values of a column: which are there, how long each is, and their bits, little-endian."""
    found.update(_bits(values.is_valid()))
    there, kind = values.drop_null(), values.type
    if not len(there):
        return
    if pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind):
        if pa.types.is_list(kind):
            found.update(_bits(there.value_lengths()))
        _add(found, there.flatten())
    elif pa.types.is_string(kind) or pa.types.is_binary(kind):
        found.update(_bits(pc.binary_length(there)))
        found.update(b"".join(there.cast(pa.binary()).to_pylist()))
    else:
        found.update(_bits(there))


def _bits(values: pa.Array) -> bytes:
    numbers = values.to_numpy(zero_copy_only=False)
    return np.ascontiguousarray(numbers).astype(numbers.dtype.newbyteorder("<"), copy=False).tobytes()
