"""The evidence: one row per (cell, sample), in one schema.

Columns that a kind of scenario does not have are absent from its files and null where tables are joined. `sample` is the sample's id;
label, pred, top5 and rank count classes as the data's first Reading does; confidence, nll (natural log), margin (in logits) and brier are
those of robustvit.primitives.reading.prediction_columns. linf, l2 and l0 measure an attack's perturbation, `attacked` says whether the
sample was right when clean (an attack leaves the others alone, and both denominators exist). Of a model with randomness of its own `pred`
is the prediction under the draw that the scenario met, and `draws_right` the number of right ones under so many new `draws`. Of a
certificate: `vote` is the class with the most votes, votes_first, votes_second and votes_label count those of the first, the second and the
label, `votes` all that were counted; `tokens`, how many the model was shown in all of them (0: hidden ones stayed, black); patch_held, the
side of the largest patch that cannot change the vote, counted place by place; radius, in l2; level, the probability with which that holds.
`pred` is there where all votes were counted. A frame of a clip (`clip#3`) has the number of the frame that it is compared with, `against`,
−1 for none; samples that were measured together have one `group`, numbered in evaluation order, and one value. What else the data knows of
a sample is in `fact_NAME` (`fact_texture`, `fact_real`). Further readings add `pred_NAME` and `rank_NAME`; `--keep logits` adds `logits`. A
measurement `value_NAME` is a number, or a list of one for each block of the model; `counts_NAME` is a list of whole numbers, one for each
class. A model that computes on fewer tokens has `value_tokens`, how many each of its blocks met, and `value_gmacs`, the billions of
multiply-accumulate operations of the image; one that anchors its images `value_tied`, at how many of its anchors several phases had the
largest norm.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from robustvit.errors import BadParameter, StoreDamaged, nearest
from robustvit.records.columns import FIELDS, column_type, list_type, sample_fault
from robustvit.records.compacted.cell_files import FileRows, read_rows
from robustvit.records.manifest import Manifest, RequestedCell
from robustvit.records.parquet import frame_of
from robustvit.records.records_file import RowFile

_SPENT = {"queries", "gradients"}
SCHEMA_VERSION = 2
COMPACTED_SCHEMA = 3  # of a store with compacted cells, in which an earlier robustvit would see no rows
_QUESTION = (
    "cell", "suite", "suite_version", "model", "data", "base", "transforms", "scenario", "severity", "params", "seed", "precision", "view",
    "model_view", "kind", "storage", "asked", "source", "command", "link", "links", "attack",
)  # fmt: skip


def table(columns: Mapping[str, np.ndarray | Sequence[Any]]) -> pa.Table:
    """An Arrow table of per-sample columns, each of the schema's type. Raises BadParameter for a column the schema does not know."""
    arrays = {}
    for name, values in columns.items():
        kind = _list_type(name, values) or column_type(name) or _open_type(name, values)
        arrays[name] = _array(values, kind)
    ordered = [name for name in FIELDS if name in arrays] + sorted(set(arrays) - set(FIELDS))
    return pa.table({name: arrays[name] for name in ordered})


def continued(earlier: pd.DataFrame, later: pa.Table, active: np.ndarray) -> pa.Table:
    """Rows of a chain of attacks after one more link: `later` are those of the samples, by place in `earlier`, that were attacked again.

    Queries and gradients add up, and steps go on counting; everything else of a sample that was attacked again is what the last attack
    left.
    """
    again = frame_of(later).set_axis(active, axis=0)
    before = earlier.loc[active]
    for name in _SPENT & set(again) & set(before):
        again[name] += before[name]
    if {"steps", "queries"} <= set(again) & set(before):
        again["steps"] = again["steps"].where(again["steps"] < 0, again["steps"] + before["queries"])
    shared = [name for name in again if name in earlier]
    return of_frame(pd.concat([earlier.drop(index=active.tolist())[shared], again[shared]]).sort_index())


def of_frame(rows: pd.DataFrame) -> pa.Table:
    """Rows that were read, as they were written."""
    return table({str(name): rows[name].to_numpy() if rows[name].dtype.kind in "biuf" else rows[name].tolist() for name in rows})


def _list_type(name: str, values: Any) -> pa.DataType | None:
    """The type of a column whose rows are lists, where its values are such; None for any other."""
    if not name.startswith(("value_", "counts_")):
        return None
    shape = np.asarray(values).shape
    return list_type(name, shape[1]) if len(shape) == 2 else None


def _open_type(name: str, values: Any) -> pa.DataType:
    if name == "logits":
        return pa.list_(pa.float32(), np.asarray(values).shape[1])
    if name.startswith("fact_"):
        return _fact_type(name, values)
    raise BadParameter(f"Records have no column '{name}'.{nearest(name, FIELDS)} A measurement of your own is called value_{name}.")


def _fact_type(name: str, values: Any) -> pa.DataType:
    found = pa.array(values).type
    if pa.types.is_list(found):
        return pa.list_(pa.int32())
    if pa.types.is_string(found) or pa.types.is_integer(found):
        return pa.string() if pa.types.is_string(found) else pa.int32()
    raise BadParameter(f"the column '{name}' holds {found}; facts are whole numbers, text or lists of whole numbers.")


def _array(values: Any, kind: pa.DataType) -> pa.Array:
    if pa.types.is_fixed_size_list(kind):
        flat = np.ascontiguousarray(np.asarray(values).reshape(-1))
        return pa.FixedSizeListArray.from_arrays(pa.array(flat, kind.value_type), kind.list_size)
    return pa.array(np.asarray(values) if not isinstance(values, list | tuple) else values, kind)


@dataclass(frozen=True, kw_only=True)
class Question(RequestedCell):
    """A cell as a suite requested it: the names that tables show, how many samples were requested, by which suite and command line."""

    suite: str
    suite_version: int
    command: str

    @classmethod
    def of(cls, cell: RequestedCell, manifest: Manifest) -> Question:
        """A cell as the suite of a manifest requested it."""
        return cls(**vars(cell), suite=manifest.suite.name, suite_version=manifest.suite.version, command=manifest.command)


class Records:
    """Rows of several cells, read when needed.

    `questions`: what the cells are, one row for each, as a DataFrame. Iterating gives (Question, DataFrame) pairs, one cell at a time.
    """

    def __init__(self, found: Sequence[tuple[Question, Sequence[RowFile]]]) -> None:
        self._found = list(found)

    @property
    def questions(self) -> pd.DataFrame:
        """One row per cell: suite, model, data, scenario, severity, seed, …"""
        return pd.DataFrame([vars(question) for question, _ in self._found], columns=list(_QUESTION))

    def __len__(self) -> int:
        return sum(rows(files) for _, files in self._found)

    def __iter__(self) -> Iterator[tuple[Question, pd.DataFrame]]:
        for question, files in self._found:
            yield question, read(files)

    def to_pandas(self, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """Every row, with what tells its cell from others in front. columns: only these of the schema's (default all).

        In front are cell, suite, model, transforms, data, scenario, severity, params, link (of a chain of attacks, from 1; else 0), seed
        and precision.
        """
        frames = []
        for question, files in self._found:
            frame = read(files, columns)
            for place, name in enumerate(
                ("cell", "suite", "model", "transforms", "data", "scenario", "severity", "params", "link", "seed", "precision")
            ):
                frame.insert(place, name, getattr(question, name))
            frames.append(frame)
        return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def cover(files: Sequence[RowFile]) -> list[RowFile]:
    """The fewest files whose rows make up the longest prefix of every shard, in shard and row order.

    Stores merged by copying may hold overlapping files; their shared rows are equal, and each is taken once (`read` cuts them).
    """
    chosen: list[RowFile] = []
    shards: dict[int, list[RowFile]] = {}
    for file in files:
        shards.setdefault(file.shard, []).append(file)
    for _, here in sorted(shards.items()):
        reached = 0
        while True:
            best = max((file for file in here if file.start <= reached < file.stop), key=lambda file: file.stop, default=None)
            if best is None:
                break
            chosen.append(best)
            reached = best.stop
    return chosen


def file_rows(files: Sequence[RowFile]) -> Iterator[FileRows]:
    """The rows of each file that those before it do not hold. files: as `cover` orders them."""
    reached: dict[int, int] = {}
    for file in files:
        yield FileRows(file, reached.get(file.shard, file.start))
        reached[file.shard] = file.stop


def read(files: Sequence[RowFile], columns: Sequence[str] | None = None) -> pd.DataFrame:
    """The rows of one cell in evaluation order. An empty list gives an empty frame with the schema's columns.

    Raises StoreDamaged where a file is not whole, or two hold the same sample in different places.
    """
    return read_with_notes(files, columns)[0]


def read_with_notes(files: Sequence[RowFile], columns: Sequence[str] | None = None) -> tuple[pd.DataFrame, list[dict[str, Any]]]:
    """As `read`, with what was recorded beside the rows of each file that they are taken from, which is opened once."""
    tables, notes = read_rows(list(file_rows(cover(files))), columns)
    if not tables:
        return pd.DataFrame({name: pd.Series(dtype="object") for name in (columns or FIELDS)}), []
    whole = pa.concat_tables(tables, promote_options="default")
    if len(tables) > 1 and (why := sample_fault(whole)):
        raise StoreDamaged(f"{files[0].path.parent}: in the files of this cell {why}. Delete the folder and run the same suite again.")
    return frame_of(whole), notes


def rows(files: Sequence[RowFile]) -> int:
    """How many distinct rows the files hold."""
    return sum(file.stop - start for file, start in file_rows(cover(files)))
