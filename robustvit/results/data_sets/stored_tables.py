"""The three tables of a store that other programs get: its questions, its cells, and the rows of these, one cell at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import pyarrow as pa

from robustvit.errors import StoreError
from robustvit.records.cells import CellRows, rows_of
from robustvit.records.columns import FIELDS
from robustvit.records.records import Question, of_frame
from robustvit.records.store import Store

NAMES = ("model", "transforms", "data", "scenario", "severity", "params", "seed", "precision")
"""What a row says of its cell, behind the cell's id."""
_NUMBERS = {"seed": pa.int64()}
QUESTIONS = pa.schema([("suite", pa.string()), ("suite_version", pa.int64()), ("model", pa.string()), ("cell", pa.string()),
                       ("asked", pa.int64()), ("command", pa.string())])  # fmt: skip
CELLS = pa.schema([
    ("cell", pa.string()), *((name, _NUMBERS.get(name, pa.string())) for name in NAMES), ("kind", pa.string()), ("view", pa.string()),
    ("base", pa.string()), ("weights", pa.string()), ("attack", pa.string()), ("link", pa.int64()), ("asked", pa.int64()),
    ("rows", pa.int64()), ("status", pa.string()), ("reason", pa.string()), ("seconds", pa.float64()),
])  # fmt: skip


@dataclass(frozen=True)
class StoredTables:
    """What the runs of a store requested, and where the rows are. cells: each once, as the question that asked for most of its samples."""

    store: Store
    questions: tuple[Question, ...]
    cells: Mapping[str, Question]

    @classmethod
    def of(cls, store: Store, suite: str | None = None, models: list[str] | None = None) -> StoredTables:
        """Those of a suite and of models. Raises StoreError for one that no run requested, and where no cell has a row."""
        questions = tuple(store.questions(suite, models))
        cells: dict[str, Question] = {}
        for one in questions:
            cells[one.cell] = replace(one, asked=max(one.asked, cells.get(one.cell, one).asked))
        if not any(store.files(cell) for cell in cells):
            raise StoreError(f"the store {store.path} has no row to export; `robustvit run` computes them.")
        return cls(store, questions, cells)

    def question_table(self) -> pa.Table:
        """One row for each cell that a suite requested."""
        return pa.table({name: [getattr(one, name) for one in self.questions] for name in QUESTIONS.names}, QUESTIONS)

    def columns(self) -> pa.Schema:
        """The columns that any of the cells has, lists of whatever length."""
        held = {name for cell in self.cells for file in self.store.files(cell) for name in file.columns()}
        kinds: dict[str, pa.DataType] = {}
        for name in [name for name in FIELDS if name in held]:
            kinds[name] = _open(FIELDS[name])
        others = held - set(FIELDS)
        for cell in self.cells:
            for file in self.store.files(cell)[:1] if others - set(kinds) else []:
                kinds |= {one.name: _open(one.type) for one in file.read(sorted(others)).schema if one.name not in kinds}
        return pa.schema([*((name, kinds[name]) for name in FIELDS if name in kinds), *((name, kinds[name]) for name in sorted(others))])

    def rows(self) -> Iterator[tuple[Question, CellRows, pa.Table]]:
        """Each cell, what is known of its rows, and the rows that were requested and are there: none of one that failed.

        Raises StoreDamaged where a file of them is not whole.
        """
        for question in self.cells.values():
            found = rows_of(self.store, question)
            if found.damage is not None:
                raise found.damage
            yield question, found, of_frame(found.rows) if len(found.rows) else pa.table({"sample": pa.array([], pa.string())})


def aligned(rows: pa.Table, schema: pa.Schema) -> pa.Table:
    """Rows with all columns of a schema, null where a cell does not have one."""
    held = set(rows.column_names)
    columns = [rows[one.name].cast(one.type) if one.name in held else pa.nulls(len(rows), one.type) for one in schema]
    return pa.table(columns, schema=schema)


def cell_row(question: Question, found: CellRows) -> dict[str, object]:
    """The row of a cell in the table of cells."""
    own = {"rows": len(found.rows), "status": found.status, "reason": found.reason, "seconds": found.seconds}
    return {name: own[name] if name in own else getattr(question, name) for name in CELLS.names}


def _open(kind: pa.DataType) -> pa.DataType:
    return pa.list_(kind.value_type) if pa.types.is_fixed_size_list(kind) else kind
