"""Whether two tables of Records hold the same rows, to the bit."""

from __future__ import annotations

import pyarrow as pa


def difference(one: pa.Table, other: pa.Table) -> str:
    """What tells two tables of rows apart: their number, a column's name, type or bits; "" where nothing does."""
    if one.column_names != other.column_names:
        apart = sorted(set(one.column_names) ^ set(other.column_names))
        return f"only one has a column '{apart[0]}'" if apart else "their columns are in another order"
    if one.num_rows != other.num_rows:
        return f"one has {one.num_rows:,} rows, the other {other.num_rows:,}"
    for name in one.column_names:
        if not _same_bits(one[name].combine_chunks(), other[name].combine_chunks()):
            return f"their columns '{name}' differ"
    return ""


def _same_bits(one: pa.Array, other: pa.Array) -> bool:
    """Whether two columns are equal, NaN to NaN of the same bits."""
    if one.type != other.type or one.null_count != other.null_count:
        return False
    if pa.types.is_fixed_size_list(one.type) and not one.null_count:
        return _same_bits(one.flatten(), other.flatten())
    if pa.types.is_floating(one.type) and not one.null_count:
        return bool(one.to_numpy().tobytes() == other.to_numpy().tobytes())
    return bool(one.equals(other))
