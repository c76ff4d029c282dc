"""The content of a compacted file: of each column the smaller of two encodings, in row groups of tens of thousands of rows."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from robustvit.records.records_file import META

GROUP = 65_536  # rows of a row group
_CELLS = 1 << 24  # values of a row group of lists, such as logits, at most
_LEAST = 10_000  # rows of a row group, of however long lists
_ZSTD = 15  # 19 takes twice as long for half a percent
_SIMPLE = {pa.int32(), pa.float32(), pa.string(), pa.bool_()}  # types that Parquet's schema tells without Arrow's, a kilobyte a file


def encode_columns(rows: pa.Table, meta: Mapping[str, Any]) -> memoryview:
    """The content of a Parquet file of these columns. meta: what is recorded beside the rows.

    Floats are split into streams of bytes, whole numbers into differences, unless a dictionary takes less.
    """
    words = [_leaf(one) for one in rows.schema if _in_dictionary(rows.select([one.name]))]
    split = {_leaf(one): _encoding(one.type) for one in rows.schema if _encoding(one.type) and _leaf(one) not in words}
    longest = max((one.type.list_size for one in rows.schema if pa.types.is_fixed_size_list(one.type)), default=1)
    notes = {META: json.dumps(meta, sort_keys=True, separators=(",", ":")).encode()}
    told = set(rows.schema.types) <= _SIMPLE and hasattr(pq.ParquetWriter, "add_key_value_metadata")  # since pyarrow 16
    held = rows.replace_schema_metadata(None if told else notes)
    sink = io.BytesIO()
    with pq.ParquetWriter(
        sink, held.schema, compression="zstd", compression_level=_ZSTD, write_page_checksum=True, write_statistics=False,
        use_dictionary=words, store_schema=not told, column_encoding=split or None,
    ) as writer:  # fmt: skip
        writer.write_table(held, row_group_size=min(GROUP, max(_LEAST, _CELLS // longest)))
        if told:
            writer.add_key_value_metadata(notes)
    return sink.getbuffer()


def _values(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind) else kind


def _leaf(field: pa.Field) -> str:
    """The path of a column's values in a Parquet file."""
    return f"{field.name}.list.element" if _values(field.type) is not field.type else field.name


def _encoding(kind: pa.DataType) -> str:
    """The encoding of numbers without a dictionary; "" for what is not made of numbers."""
    value = _values(kind)
    if pa.types.is_floating(value):
        return "BYTE_STREAM_SPLIT"
    return "DELTA_BINARY_PACKED" if value in (pa.int32(), pa.int64()) else ""


def _in_dictionary(column: pa.Table) -> bool:
    """Whether a dictionary of its values takes less than their encoding. column: a table of one."""
    field = column.schema.field(0)
    kind, value = _encoding(field.type), _values(field.type)
    if not kind:
        return bool(pa.types.is_string(value) or pa.types.is_binary(value))
    return _size(column, use_dictionary=True) < _size(column, use_dictionary=False, column_encoding={_leaf(field): kind})


def _size(column: pa.Table, **encoding: Any) -> int:
    sink = io.BytesIO()
    pq.write_table(column, sink, compression="zstd", compression_level=1, write_statistics=False, **encoding)
    return sink.tell()
