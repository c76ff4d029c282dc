"""Maps of what analyses keep as lists: the loss around a model's weights, and the spectra of its features by depth."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd

from robustvit.records.cells import rows_of, stored_cells
from robustvit.records.store import Store
from robustvit.report.class_maps import heat_png
from robustvit.report.curves.depth_curves import shift_name
from robustvit.report.labels import format_number
from robustvit.report.suite_results import ModelResults

_SIDE, _LEFT, _TOP, _BELOW = 200.0, 46.0, 6.0, 34.0  # of the plot, and the room beside, above and below it


class _Kind(NamedTuple):
    """A column of an analysis that is drawn: its name after `value_SIDE_`, that of a list with an entry for each of its rows ("" for a
    square), and what its rows and columns are.
    """

    column: str
    rows: str
    down: str
    across: str


_KINDS = {
    "landscape": _Kind("landscape", "", "first direction", "second direction"),
    "fourier": _Kind("spectrum", "log_amplitude", "joint", "frequency, to the highest"),
}


@dataclass(frozen=True)
class AnalysisMap:
    """The map of one cell and side. what: of what; n: images; svg: the drawing; low, high: the least and the largest value."""

    model: ModelResults
    what: str
    n: int
    svg: str
    low: str
    high: str


def analysis_maps(store: Store, models: Sequence[ModelResults]) -> Iterator[AnalysisMap]:
    """Those of every cell whose records have one, each the mean over its images, of clean images once for a model and analysis."""
    of = {str(row.cell): (model, row) for model in models for row in model.cells.itertuples() if row.scenario in _KINDS}
    questions = {one.question.cell: one.question for one in stored_cells(store) if one.question.cell in of} if of else {}
    drawn = set[tuple[str, str]]()
    for cell, (model, row) in of.items():
        scenario = str(row.scenario)
        if cell not in questions or not store.knows(cell):
            continue
        kind, found = _KINDS[scenario], rows_of(store, questions[cell], None).rows
        for side in ("clean", "shifted"):
            if f"value_{side}_{kind.column}" not in found or (side == "clean" and (model.name, scenario) in drawn):
                continue
            drawn |= {(model.name, scenario)}
            shift = "" if side == "clean" else f", {shift_name(str(row.params), str(row.severity))}"
            values = _mean(found, kind, side)
            ends = (format_number(float(values.min())), format_number(float(values.max())))
            yield AnalysisMap(model, f"{kind.column}, {side}{shift}", len(found), drawn_map(values, kind.down, kind.across), *ends)


def drawn_map(values: np.ndarray, down: str, across: str) -> str:
    """(rows, columns) values as an SVG element, the lowest dark, with what they are below and beside."""
    rows, columns = values.shape
    height, width = _SIDE, _SIDE
    plot = f'x="{_LEFT:g}" y="{_TOP:g}" width="{width:g}" height="{height:g}" preserveAspectRatio="none"'
    middle, bottom, centre = _LEFT + width / 2, _TOP + height + 16, _TOP + height / 2
    words = f'<text class="tick" x="{middle:.1f}" y="{bottom:.1f}" text-anchor="middle">{across}</text>'
    words += f'<text class="tick" x="34" y="{centre:.1f}" text-anchor="middle" transform="rotate(-90 34 {centre:.1f})">{down}</text>'
    size = f'viewBox="0 0 {_LEFT + width + 12:.0f} {_TOP + height + _BELOW:.0f}"'
    size += f' width="{_LEFT + width + 12:.0f}" height="{_TOP + height + _BELOW:.0f}"'
    label = f'role="img" aria-label="{rows} by {columns} values"'
    return f'<svg class="class-map" {size} {label}><image {plot} href="{heat_png(values)}"/>{words}</svg>'


def _mean(found: pd.DataFrame, kind: _Kind, side: str) -> np.ndarray:
    values = np.stack(found[f"value_{side}_{kind.column}"].tolist()).astype(np.float64).mean(axis=0)
    rows = round(len(values) ** 0.5) if not kind.rows else len(found[f"value_{side}_{kind.rows}"].iloc[0])
    return np.asarray(values.reshape(rows, -1))
