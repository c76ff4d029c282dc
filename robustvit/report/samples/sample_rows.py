"""The predictions of every model on every sample of a suite, packed by column for the page's list of samples."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from robustvit.records.cells import rows_of, stored_cells
from robustvit.records.store import Store
from robustvit.report.labels import scenario_title
from robustvit.report.suite_results import ScenarioSetting, SuiteResults

INLINE = 300_000  # predictions that a page of one file holds
_NONE = -1  # a prediction that is not there


@dataclass(frozen=True)
class PredictedCell:
    """The predictions of one model in one setting. preds: (N,) of the samples of its group, −1 where there is none.

    side: the store that it is from, 0 or 1 of two.
    """

    model: str
    setting: str
    cell: str
    preds: np.ndarray
    side: int = 0


@dataclass(frozen=True)
class SampleGroup:
    """The cells of a suite on one data set. samples: (N,) ids; labels: (N,); classes: names of the labels, or none.

    changed: of a comparison of two stores, whose cells come in pairs, how many predictions differ in each pair.
    """

    title: str
    samples: tuple[str, ...]
    labels: np.ndarray
    classes: tuple[str, ...]
    cells: tuple[PredictedCell, ...]
    changed: tuple[int, ...] = ()

    def packed(self, image_of: Callable[[PredictedCell, str], str] | None = None) -> dict[str, Any]:
        """What the page's script reads: numbers as base64 of little-endian integers. image_of: (cell, sample) to an image's path."""
        images = {
            place: {row: path for row, sample in enumerate(self.samples) if (path := image_of(cell, sample))}
            for place, cell in enumerate(self.cells if image_of is not None else ())
            if image_of is not None
        }
        return {
            "title": self.title, "samples": list(self.samples), "labels": _numbers(self.labels), "classes": list(self.classes),
            "cells": [{"model": one.model, "setting": one.setting, "preds": _numbers(one.preds)} for one in self.cells],
            "images": {str(place): found for place, found in images.items() if found},
        } | self._pairs()  # fmt: skip

    def _pairs(self) -> dict[str, Any]:
        return {"paired": True, "changed": list(self.changed)} if self.changed else {}


def predictions_in(suites: Sequence[SuiteResults]) -> int:
    """How many predictions the cells of some suites have."""
    return sum(int(model.cells.drop_duplicates("cell")["n"].sum()) for suite in suites for model in suite.models)


def sample_groups(store: Store, suite: SuiteResults, class_names: Mapping[str, Sequence[str]]) -> Iterator[SampleGroup]:
    """A group for each data set of a suite whose cells have predictions. Frames of clips, whose labels do not count, have none.

    class_names: by cell.
    """
    shown = [model for model in suite.models if len(model.cells)]
    settings = {
        (str(row.cell), model): ScenarioSetting(str(row.scenario), str(row.params), str(row.severity))
        for model in shown
        for row in model.cells.drop_duplicates("cell").itertuples()
    }
    keys = list(dict.fromkeys(setting[:2] for setting in settings.values()))
    questions = {one.question.cell: one.question for one in stored_cells(store, suite.name)}
    by_data: dict[str, list[tuple[str, str, str, pd.DataFrame]]] = {}
    for (cell, model), setting in settings.items():
        if cell not in questions:
            continue
        rows = rows_of(store, questions[cell], ["label", "pred", "against"]).rows
        if {"label", "pred"} <= set(rows) and "against" not in rows and len(rows):
            title = f"{scenario_title(setting[:2], keys)} {setting.severity}".strip()
            by_data.setdefault(questions[cell].data, []).append((model.name, title, cell, rows))
    for data, found in by_data.items():
        yield _group(f"{suite.name} · {data}" if len(by_data) > 1 or suite.data != data else suite.name, found, class_names)


def _group(title: str, found: Sequence[tuple[str, str, str, pd.DataFrame]], class_names: Mapping[str, Sequence[str]]) -> SampleGroup:
    labels = pd.concat([rows.set_index("sample")["label"] for *_, rows in found])
    labels = labels[~labels.index.duplicated()].sort_index()
    cells = []
    for model, setting, cell, rows in found:
        preds = rows.drop_duplicates("sample").set_index("sample")["pred"].reindex(labels.index)
        cells.append(PredictedCell(model, setting, cell, preds.fillna(_NONE).to_numpy().astype(np.int64)))
    classes = next((tuple(class_names[cell]) for _, _, cell, _ in found if class_names.get(cell)), ())
    return SampleGroup(title, tuple(map(str, labels.index)), labels.to_numpy().astype(np.int64), classes, tuple(cells))


def _numbers(values: np.ndarray) -> dict[str, Any]:
    """Integers in two bytes each where they fit, else in four."""
    wide = len(values) > 0 and int(np.abs(values).max()) >= 2**15
    return {"bytes": 4 if wide else 2, "data": base64.b64encode(values.astype("<i4" if wide else "<i2").tobytes()).decode()}
