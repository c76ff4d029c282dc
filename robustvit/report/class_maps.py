"""What transforms learned for every class, such as the masks of attention heads, as heat maps of units by classes."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import escape
from PIL import Image

from robustvit.records.store import Store
from robustvit.report.colours import colour_scale, colour_step
from robustvit.report.labels import format_number
from robustvit.report.suite_results import ModelResults
from robustvit.spec import registry
from robustvit.spec.cell import learned_id

_LEFT, _WIDTH, _NARROWEST = 76.0, 760.0, 240.0
_PLAIN, _TURNED = 20.0, 72.0  # room below for numbers, and for names
_TALLEST, _WIDEST = 16.0, 34.0  # a unit's and a class's share of the plot at most
_HEIGHT = 620.0  # of all units at most
_NAMED = 24  # classes up to so many are named
_LONGEST = 14  # letters of a name


@dataclass(frozen=True)
class ClassMap:
    """A heat map: units of all blocks from the first block down, classes across. units: what they are; svg: the drawing.

    low, high: the values at the ends of the colour scale, the lowest and highest of the map.
    """

    model: ModelResults
    units: str
    svg: str
    low: str
    high: str


def class_maps(store: Store, model: ModelResults, class_names: Mapping[str, Sequence[str]]) -> Iterator[ClassMap]:
    """Those of every transform of a model that declares them and whose artifact is in the store. class_names: by cell."""
    cell = next((str(one) for one in model.cells["cell"]), None)
    if cell is None or not store.knows(cell):
        return
    question = store.describe(cell)
    for place, spec in enumerate(question["transforms"]):
        entry = registry.entries("transform").get(spec["name"])
        learned = store.artifact(learned_id(question, place)) if entry is not None and entry.class_maps else None
        if entry is not None and learned is not None:
            prefix = f"{entry.class_maps}."
            blocks = {int(name.removeprefix(prefix)): values for name, values in learned.items() if name.startswith(prefix)}
            values = np.concatenate(list(blocks.values()))
            ends = (format_number(float(values.min())), format_number(float(values.max())))
            yield ClassMap(model, entry.class_maps, drawn([blocks[at] for at in sorted(blocks)], class_names.get(cell, ())), *ends)


def drawn(blocks: Sequence[np.ndarray], names: Sequence[str]) -> str:
    """The values of units (units, classes) of every block as an SVG element, the lowest dark. names: of the classes, or none."""
    values = np.concatenate(blocks)
    rows, columns = values.shape
    tall, wide = min(_TALLEST, _HEIGHT / rows), min(_WIDEST, (_WIDTH - _LEFT) / columns)
    height, right = rows * tall, _LEFT + columns * wide
    ticks = [*_block_ticks([len(one) for one in blocks], tall, right), *_class_ticks(names, columns, wide, height)]
    plot = f'x="{_LEFT:g}" y="0" width="{columns * wide:.1f}" height="{height:.1f}" preserveAspectRatio="none"'
    picture = f'<image {plot} href="{heat_png(values)}"/>'
    across, down = max(right, _NARROWEST), height + (_TURNED if any("rotate" in one for one in ticks) else _PLAIN)
    size = f'viewBox="0 0 {across:.0f} {down:.0f}" width="{across:.0f}" height="{down:.0f}"'
    return f'<svg class="class-map" {size} role="img" aria-label="{rows} units by {columns} classes">{picture}{"".join(ticks)}</svg>'


def _block_ticks(sizes: Sequence[int], tall: float, right: float) -> Iterator[str]:
    """A label for each block and a line between blocks."""
    top = 0.0
    for index, size in enumerate(sizes):
        if index:
            yield f'<path class="between" d="M{_LEFT:g} {top:.1f}H{right:.1f}"/>'
        yield f'<text class="tick" x="{_LEFT - 8:g}" y="{top + size * tall / 2 + 4:.1f}" text-anchor="end">block {index}</text>'
        top += size * tall


def _class_ticks(names: Sequence[str], columns: int, wide: float, height: float) -> Iterator[str]:
    """The names of a few classes, or the first and the last index of many."""
    few = columns <= _NAMED
    for index in range(columns) if few else (0, columns - 1):
        name = names[index] if few and len(names) == columns else str(index)
        short = name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}…"
        x, y = _LEFT + (index + 0.5) * wide, height + 14
        turn = f' transform="rotate(35 {x:.1f} {y:.1f})"' if few and len(short) > 3 else ""
        anchor = "start" if turn else "middle"
        yield f'<text class="tick" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{turn}>{escape(short)}</text>'
    yield f'<text class="tick" x="{_LEFT - 8:g}" y="{height + 14:.1f}" text-anchor="end">class</text>'


def heat_png(values: np.ndarray) -> str:
    """A data URI of an image with one pixel for each value, the lowest dark and the highest light."""
    shades = np.array([[int(one.background[i : i + 2], 16) for i in (1, 3, 5)] for one in colour_scale()], dtype=np.uint8)
    low, span = float(values.min()), float(np.ptp(values)) or 1.0
    steps = np.vectorize(lambda value: colour_step(float(value) - low, span), otypes=[np.int64])(values)
    buffer = io.BytesIO()
    Image.fromarray(shades[steps]).save(buffer, "png")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
