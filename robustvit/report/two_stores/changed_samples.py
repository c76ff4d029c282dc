"""The samples whose prediction differs between two stores, as groups for the page's list of samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from robustvit.records.cells import rows_of
from robustvit.records.records import Question
from robustvit.records.store import Store
from robustvit.report.samples.sample_rows import PredictedCell, SampleGroup
from robustvit.report.two_stores.verdicts import cell_names, model_names_of, varied_settings
from robustvit.spec.grouping import grouped

_COLUMNS = ("label", "pred")
_NONE = -1


def changed_groups(
    stores: tuple[Store, Store], table: pd.DataFrame, class_names: Sequence[Mapping[str, Sequence[str]]]
) -> list[SampleGroup]:
    """A group for each suite and data set of a table of `diff`: the cells in which a prediction changed, each of a and then of b.

    It has the samples that changed in one of these cells. class_names: of both sides, by cell.
    """
    changed = table[table["changed"] > 0]
    names, titles = model_names_of(table), cell_names(table)
    further = [name for name in varied_settings(table) if name not in ("suite", "data")]
    questions = [{(one.suite, one.cell): one for one in store.questions()} for store in stores]
    rows: list[Any] = list(changed.itertuples())
    parts = grouped(((str(row.suite), str(row.data)), row) for row in rows)
    made = []
    for (suite, data), own in parts.items():
        several = len({key[1] for key in parts}) > 1 and suite != data
        cells = [
            _CellPair(" · ".join([names[row.Index], *(f"{name} {getattr(row, name)}" for name in further)]), titles[row.Index],
                      (row.cell_a, row.cell_b))
            for row in own
        ]  # fmt: skip
        known = [{cell: one for (of, cell), one in side.items() if of == suite} for side in questions]
        made.append(_group(f"{suite} · {data}" if several else suite, cells, stores, known, class_names))
    return made


class _CellPair(NamedTuple):
    """A cell of both stores, by its ids there."""

    model: str
    setting: str
    cells: tuple[str, str]


def _group(
    title: str,
    cells: Sequence[_CellPair],
    stores: tuple[Store, Store],
    questions: Sequence[Mapping[str, Question]],
    class_names: Sequence[Mapping[str, Sequence[str]]],
) -> SampleGroup:
    pairs = [[_predictions(stores[side], questions[side][cell]) for side, cell in enumerate(one.cells)] for one in cells]
    changed = [_changed(*pair) for pair in pairs]
    labels = pd.concat([pair[0]["label"] for pair in pairs])
    labels = labels[~labels.index.duplicated()][sorted(set().union(*changed))]
    made = [
        PredictedCell(one.model, one.setting, cell, rows["pred"].reindex(labels.index).fillna(_NONE).to_numpy().astype(np.int64), side)
        for one, pair in zip(cells, pairs, strict=True)
        for side, (cell, rows) in enumerate(zip(one.cells, pair, strict=True))
    ]
    named = (names[cell] for one in cells for names, cell in zip(class_names, one.cells, strict=True) if names.get(cell))
    counts = tuple(map(len, changed))
    return SampleGroup(
        title, tuple(map(str, labels.index)), labels.to_numpy().astype(np.int64), tuple(next(named, ())), tuple(made), counts
    )


def _predictions(store: Store, question: Question) -> pd.DataFrame:
    return rows_of(store, question, _COLUMNS).rows.drop_duplicates("sample").set_index("sample")


def _changed(a: pd.DataFrame, b: pd.DataFrame) -> list[str]:
    """The samples of both with another prediction."""
    both = pd.concat([a["pred"], b["pred"]], axis=1, join="inner", keys=["a", "b"])
    return list(both.index[both["a"] != both["b"]])
