"""Maps of consistency over the shifts of a grid: where the image may lie for the prediction to stay what it was."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from robustvit.records.cells import rows_of, stored_cells
from robustvit.records.store import Store
from robustvit.report.class_maps import heat_png
from robustvit.report.labels import format_number
from robustvit.report.suite_results import ModelResults
from robustvit.spec.shift_conventions import ShiftRanges, shift_ranges

_COLUMN, _ANALYSIS = "value_shift_map", "shift_consistency"
_SIDE, _LEFT, _TOP, _BELOW = 240.0, 46.0, 6.0, 34.0  # of the plot, and the room beside, above and below it


@dataclass(frozen=True)
class ShiftMap:
    """The map of one model. convention: its shifts; n: images; svg: the drawing; low, high: the least and the largest share in %."""

    model: ModelResults
    convention: str
    n: int
    svg: str
    low: str
    high: str


def shift_maps(store: Store, models: Sequence[ModelResults]) -> Iterator[ShiftMap]:
    """Those of every cell whose records have a map, each the mean over its images, model by model."""
    of = {str(cell): model for model in models for cell in model.cells.loc[model.cells["scenario"] == _ANALYSIS, "cell"]}
    if not of:
        return
    questions = {one.question.cell: one.question for one in stored_cells(store) if one.question.cell in of}
    for cell, model in of.items():
        if cell not in questions or not store.knows(cell) or not _has_map(store, cell):
            continue
        rows = rows_of(store, questions[cell], [_COLUMN]).rows
        if len(rows) and _COLUMN in rows:
            description = store.describe(cell)
            convention = str(description["scenario"]["params"]["convention"])
            ranges = shift_ranges(convention, *description["view"]["size"])  # type: ignore[arg-type]
            shares = 100 * np.stack(rows[_COLUMN].tolist()).astype(np.float64).mean(axis=0).reshape(ranges.shape)
            ends = (format_number(float(shares.min())), format_number(float(shares.max())))
            yield ShiftMap(model, convention, len(rows), drawn_shifts(shares, ranges), *ends)


def drawn_shifts(shares: np.ndarray, ranges: ShiftRanges) -> str:
    """Shares by shift, down by right, as an SVG element, the lowest dark. Places are labelled by the distance from the unshifted image."""
    rows, columns = shares.shape
    step = _SIDE / max(rows, columns)
    height, width = rows * step, columns * step
    ticks = [*_ticks(ranges.down, ranges.still, step, across=False), *_ticks(ranges.right, ranges.still, step, across=True)]
    plot = f'x="{_LEFT:g}" y="{_TOP:g}" width="{width:.1f}" height="{height:.1f}" preserveAspectRatio="none"'
    middle, bottom, centre = _LEFT + width / 2, _TOP + height + 30, _TOP + height / 2
    words = f'<text class="tick" x="{middle:.1f}" y="{bottom:.1f}" text-anchor="middle">px to the right</text>'
    words += f'<text class="tick" x="10" y="{centre:.1f}" text-anchor="middle" transform="rotate(-90 10 {centre:.1f})">px down</text>'
    across, down = _LEFT + width + 12, _TOP + height + _BELOW
    size = f'viewBox="0 0 {across:.0f} {down:.0f}" width="{across:.0f}" height="{down:.0f}"'
    label = f'role="img" aria-label="consistency over {rows} by {columns} shifts"'
    return f'<svg class="class-map" {size} {label}><image {plot} href="{heat_png(shares)}"/>{"".join(ticks)}{words}</svg>'


def _has_map(store: Store, cell: str) -> bool:
    return store.describe(cell)["scenario"]["params"].get("grid") is True


def _ticks(ends: tuple[int, int], still: int, step: float, *, across: bool) -> Iterator[str]:
    """The first, the last and the unshifted place of one direction."""
    for at in sorted({ends[0], still, ends[1]}):
        place = (at - ends[0] + 0.5) * step
        x, y = (_LEFT + place, _TOP + (ends[1] - ends[0] + 1) * step + 14) if across else (_LEFT - 7, _TOP + place + 4)
        yield f'<text class="tick" x="{x:.1f}" y="{y:.1f}" text-anchor="{"middle" if across else "end"}">{at - still}</text>'
