"""The columns of the Records: the type of each, the values that it can hold, and what is wrong with a table that others may have made."""

from __future__ import annotations

import math

import pyarrow as pa
import pyarrow.compute as pc

FIELDS: dict[str, pa.DataType] = {
    "sample": pa.string(), "label": pa.int32(), "pred": pa.int32(), "confidence": pa.float32(), "nll": pa.float32(),
    "margin": pa.float32(), "brier": pa.float32(), "rank": pa.int32(), "top5": pa.list_(pa.int32(), 5),
    "linf": pa.float32(), "l2": pa.float32(), "l1": pa.float32(), "l0": pa.float32(), "attacked": pa.bool_(), "felled_by": pa.string(),
    "steps": pa.int32(), "queries": pa.int32(), "gradients": pa.int32(),
    "draws": pa.int32(), "draws_right": pa.int32(), "against": pa.int32(), "group": pa.int32(), "gradient": pa.string(),
    "vote": pa.int32(), "votes_first": pa.int32(), "votes_second": pa.int32(), "votes_label": pa.int32(), "votes": pa.int32(),
    "tokens": pa.int32(),
    "patch_held": pa.int32(), "radius": pa.float32(), "level": pa.float32(),
}  # fmt: skip
_SMALLEST = {"rank": 1, "margin": -math.inf} | dict.fromkeys(("label", "pred", "steps", "queries", "gradients", "against"), -1)  # else 0
_LARGEST = {"confidence": 1.0, "brier": 2.0, "level": 1.0}
_PREDICTED = frozenset({"confidence", "nll", "margin", "brier", "rank", "top5"})
_BESIDE = {"label": _PREDICTED | {"pred", "vote"}, "pred": _PREDICTED}  # a column, and those that mean nothing without it
_BY_PREFIX = {"pred_": pa.int32(), "rank_": pa.int32(), "value_": pa.float32()}
_LISTS = {"value_": pa.float32(), "counts_": pa.int32()}  # of as many in every row of a cell


def column_type(name: str) -> pa.DataType | None:
    """The type of a column, None for one that has not always the same, or that this version does not know.

    A `value_` may be a list of numbers, one for each block of a model; `counts_` always is, one for each class.
    """
    return FIELDS.get(name) or next((kind for prefix, kind in _BY_PREFIX.items() if name.startswith(prefix)), None)


def list_type(name: str, length: int) -> pa.DataType | None:
    """The type of a column whose rows are lists of that length; None where this column never is one."""
    kind = next((kind for prefix, kind in _LISTS.items() if name.startswith(prefix)), None)
    return None if kind is None else pa.list_(kind, length)


def _takes(name: str, kind: pa.DataType) -> bool:
    """Whether a column may be of a type."""
    if pa.types.is_fixed_size_list(kind) and list_type(name, kind.list_size) is not None:
        return bool(kind == list_type(name, kind.list_size))
    return not name.startswith("counts_") and column_type(name) in (None, kind)


def schema_fault(schema: pa.Schema) -> str:
    """What is wrong with the columns of a table of Records: one that lacks, or is of another type than its own; "" where nothing is."""
    names = set(schema.names)
    if "sample" not in names or len(names) < len(schema.names):
        return "it has no column 'sample'" if "sample" not in names else "two of its columns have one name"
    for name, others in _BESIDE.items():
        if name not in names and names & others:
            return f"it has a column '{min(names & others)}' and none '{name}'"
    wrong = [one for one in schema if not _takes(one.name, one.type)]
    return f"its column '{wrong[0].name}' holds {wrong[0].type}, not {column_type(wrong[0].name) or 'lists of int32'}" if wrong else ""


def value_fault(rows: pa.Table) -> str:
    """What is wrong with the values of a table of Records, or of some of its columns; "" where nothing is.

    A value that lacks, a number that its column cannot hold (a confidence of 7, a class of −7, NaN), a sample that occurs twice.
    """
    for name, column in zip(rows.column_names, rows.columns, strict=True):
        flat = pc.list_flatten(column) if pa.types.is_fixed_size_list(column.type) and column_type(name) != column.type else column
        if (missing := column.null_count + flat.null_count * (flat is not column)) and _typed(name):
            return f"its column '{name}' has {missing} values that are null"
        if name.startswith("counts_") and len(flat) and pc.min(flat).as_py() < 0:
            return f"its column '{name}' has the value {pc.min(flat)}; it holds 0 or more"
        if why := _beyond(name, column):
            return why
    return sample_fault(rows)


def _typed(name: str) -> bool:
    return column_type(name) is not None or name.startswith("counts_")


def sample_fault(rows: pa.Table) -> str:
    """Which sample has two rows; "" where none has."""
    if "sample" not in rows.column_names or pc.count_distinct(rows["sample"]).as_py() == len(rows):
        return ""
    counts = pc.value_counts(rows["sample"]).to_pylist()
    first = next(one for one in counts if one["counts"] > 1)
    return f"the sample {str(first['values'])[:60]!r} has {first['counts']} rows"


def _beyond(name: str, column: pa.ChunkedArray) -> str:
    kind = FIELDS.get(name)
    if kind not in (pa.int32(), pa.float32()) or not len(column):
        return ""
    low, high = _SMALLEST.get(name, 0), _LARGEST.get(name, math.inf)
    values = column.to_numpy()
    least, most = values.min(), values.max()  # NaN where one is
    if least >= low and most <= high:
        return ""
    shown = "NaN" if least != least else f"{least:g}" if not least >= low else f"{most:g}"
    return f"its column '{name}' has the value {shown}; {_allowed(low, high)}"


def _allowed(low: float, high: float) -> str:
    if high == math.inf:
        return "it holds numbers" if low == -math.inf else f"it holds {low:g} or more"
    return f"it holds {low:g} to {high:g}"
