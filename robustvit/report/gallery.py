"""A few real samples as the models saw them, with their answers."""

from __future__ import annotations

import base64
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import pandas as pd
from PIL import Image, UnidentifiedImageError

from robustvit.errors import StoreDamaged
from robustvit.records.store import Store
from robustvit.report.charts import spaced, titled
from robustvit.report.figures import in_order
from robustvit.report.suite_results import Entrant, Place
from robustvit.spec.sample_order import clip

BUDGET = 48  # pictures of one entrant
_ALL = 144  # pictures of a whole page
_LEVELS = 3  # severities shown of each scenario
_SAMPLES = 4
_CRISP = 64  # pictures up to this side are shown pixel by pixel
_SIDE = 160  # larger ones are reduced to this
_QUALITY = 80
_FORMATS = {b"\x89PNG\r\n\x1a\n": "png", b"\xff\xd8\xff": "jpeg"}


@dataclass(frozen=True)
class Picture:
    """A sample in one cell. uri is "" where its bytes are no picture; right is None where there was no answer."""

    uri: str
    crisp: bool
    level: str
    answer: str
    right: bool | None
    tip: str


class Seen(NamedTuple):
    """A row of a cell's gallery. answer is "" and right None where there was none."""

    sample: str
    label: str
    answer: str
    right: bool | None
    image: bytes


@dataclass(frozen=True)
class Strip:
    """One sample through one scenario."""

    title: str
    label: str
    pictures: tuple[Picture, ...]


@dataclass(frozen=True)
class Gallery:
    """The strips of one entrant, the clean one first; how many scenarios had no room, and what could not be read."""

    entrant: Entrant
    strips: tuple[Strip, ...]
    reduced: bool
    left_out: int
    damaged: str


def gallery(store: Store, entrant: Entrant, classes: Mapping[str, Sequence[str]], budget: int = BUDGET) -> Gallery | None:
    """A few samples of every scenario, clean and at up to three severities, the same ones where scenarios share them; None without pictures.

    classes: names of the labels, by cell; in a cell that has none a label is shown as its number. budget: how many pictures at most;
    where it is short, fewer samples, then fewer severities, then fewer scenarios are shown.
    """
    cells, damaged = _frames(store, entrant, classes)
    if not any(cells.values()):
        return None
    every = _chosen_levels(cells, budget)
    shown = dict(list(every.items())[:budget])
    count = max(1, min(_SAMPLES, budget // max(1, sum(len(levels) for levels in shown.values()))))
    order = _samples(cells)
    strips = [
        _strip(cells, key, shown, sample)
        for key, levels in shown.items()
        for sample in _held([cells[Place(*key, level)] for level in levels], order)[:count]
    ]
    reduced = not all(one.crisp for strip in strips for one in strip.pictures if one.uri)
    return Gallery(entrant, tuple(strips), reduced, len(every) - len(shown), damaged)


def share(entrants: int) -> int:
    """How many pictures each of so many entrants may show."""
    return max(16, min(BUDGET, _ALL // max(1, entrants)))


def _frames(store: Store, entrant: Entrant, classes: Mapping[str, Sequence[str]]) -> tuple[dict[Place, list[Seen]], str]:
    found, damaged = {}, ""
    for row in entrant.cells.drop_duplicates("cell").itertuples():
        try:
            found[Place(str(row.scenario), str(row.params), str(row.severity))] = _seen(
                store.gallery(str(row.cell)), classes.get(str(row.cell), ())
            )
        except StoreDamaged as error:
            damaged = str(error)
    return found, damaged


def _seen(pictures: pd.DataFrame, names: Sequence[str]) -> list[Seen]:
    found = []
    for row in pictures.to_dict("records"):
        label, pred = int(row["label"]), None if pd.isna(row["pred"]) else int(row["pred"])
        answer = "" if pred is None else _name(pred, names)
        found.append(Seen(str(row["sample"]), _name(label, names), answer, None if pred is None else pred == label, bytes(row["image"])))
    return found


def _name(label: int, names: Sequence[str]) -> str:
    """The first of a class's names (ImageNet's have several); its number where none has a name, "none" beyond those that have."""
    if not names:
        return str(label)
    return names[label].split(",")[0] if 0 <= label < len(names) else "none"


def _chosen_levels(cells: Mapping[Place, list[Seen]], budget: int) -> dict[tuple[str, str], list[str]]:
    """Up to three severities of each scenario, fewer where the budget is short; the clean images come first."""
    levels: dict[tuple[str, str], list[str]] = {}
    for place in sorted(cells, key=lambda place: place.scenario != "clean"):
        if cells[place]:
            levels.setdefault((place.scenario, place.params), []).append(place.severity)
    for count in range(_LEVELS, 1, -1):
        chosen = {key: _spread(in_order(found), count) for key, found in levels.items()}
        if sum(map(len, chosen.values())) <= budget:
            return chosen
    return {key: _spread(in_order(found), 1) for key, found in levels.items()}


def _spread(levels: list[str], count: int) -> list[str]:
    """So many of the levels: the middle one, the outer two, or these and the middle."""
    middle = levels[(len(levels) - 1) // 2]
    wanted = {1: [middle], 2: [levels[0], levels[-1]], 3: [levels[0], middle, levels[-1]]}[count]
    return list(dict.fromkeys(wanted))


def _samples(cells: Mapping[Place, list[Seen]]) -> list[str]:
    """Samples by how many cells keep them; of equals those that were right when clean, which show what is lost."""
    first = next((rows for place, rows in cells.items() if place.scenario == "clean" and rows), [])
    right = {row.sample for row in first if row.right}
    counts = Counter(row.sample for rows in cells.values() for row in rows)
    return sorted(counts, key=lambda sample: (-counts[sample], sample not in right))


def _held(levels: Sequence[list[Seen]], order: Sequence[str]) -> list[str]:
    """The samples that any level of a scenario keeps, in a given order."""
    held = {row.sample for rows in levels for row in rows}
    return [sample for sample in order if sample in held]


def _strip(cells: Mapping[Place, list[Seen]], key: tuple[str, str], shown: Mapping[tuple[str, str], list[str]], sample: str) -> Strip:
    rows = [(level, row) for level in shown[key] for row in cells[Place(*key, level)] if row.sample == sample]
    return Strip(titled(key, shown), rows[0][1].label, tuple(_picture(row, key[0], level) for level, row in rows))


def _picture(row: Seen, scenario: str, level: str) -> Picture:
    uri, crisp = embedded(row.image)
    stem, frame = clip(row.sample)
    level = level if stem == row.sample else f"frame {frame}"
    tip = "\n".join((f"{spaced(scenario)} {level}".strip(), row.sample, f"label: {row.label}", f"answer: {row.answer or 'none'}"))
    return Picture(uri, crisp, level, row.answer, row.right, tip)


def embedded(content: bytes) -> tuple[str, bool]:
    """A `data:` address of a PNG or JPEG, reduced to 160 px where it is larger, and whether it is small enough to show its pixels.

    The address is "" where the bytes are no picture.
    """
    kind = next((name for magic, name in _FORMATS.items() if content.startswith(magic)), "")
    if not kind:
        return "", False
    try:
        with Image.open(io.BytesIO(content), formats=["PNG", "JPEG"]) as image:
            if max(image.size) > _SIDE:
                return _reduced(image), False
            image.load()
            crisp = max(image.size) <= _CRISP
    except (UnidentifiedImageError, OSError, ValueError, Image.DecompressionBombError):
        return "", False
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}", crisp


def _reduced(image: Image.Image) -> str:
    small = image.convert("RGB")
    small.thumbnail((_SIDE, _SIDE), Image.Resampling.LANCZOS)
    sink = io.BytesIO()
    small.save(sink, "JPEG", quality=_QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(sink.getvalue()).decode()}"
