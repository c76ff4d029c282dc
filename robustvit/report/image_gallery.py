"""Sample images of every scenario as the model received them, with its predictions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import pandas as pd

from robustvit.errors import StoreDamaged
from robustvit.records.store import Store
from robustvit.report.labels import scenario_title, sorted_levels
from robustvit.report.samples.image_uris import amplified_differences, data_uri
from robustvit.report.suite_results import ModelResults, ScenarioSetting
from robustvit.spec import registry
from robustvit.spec.grouping import grouped
from robustvit.spec.sample_order import clip
from robustvit.spec.written.words import with_spaces

BUDGET = 48  # images of one model
_PAGE_BUDGET = 144  # images of a suite's models together
_LEVELS = 3  # severities shown of each scenario
_SAMPLES = 4
_MOVED = "spatial"  # the family of attacks that move images as a whole: a difference of pixels says nothing


@dataclass(frozen=True)
class GalleryImage:
    """An image of one cell. uri: "" where its bytes are no image; correct: None where there is no prediction.

    difference: a URI of what an attack changed, amplified; "" for none.
    """

    uri: str
    crisp: bool
    level: str
    prediction: str
    correct: bool | None
    tip: str
    difference: str = ""


class StoredImage(NamedTuple):
    """A row of a cell's gallery in the store. prediction is "" and correct None where there is none."""

    sample: str
    label: str
    prediction: str
    correct: bool | None
    content: bytes


@dataclass(frozen=True)
class Strip:
    """One sample at the severities of one scenario. factor: by how much differences are amplified, 0 where there are none."""

    title: str
    label: str
    images: tuple[GalleryImage, ...]
    factor: int = 0


@dataclass(frozen=True)
class ImageGallery:
    """The strips of one model, clean images first. left_out: scenarios without room; damaged: what could not be read, "" for nothing."""

    model: ModelResults
    strips: tuple[Strip, ...]
    reduced: bool
    left_out: int
    damaged: str

    @property
    def differing(self) -> bool:
        """Whether any strip shows what an attack changed."""
        return any(strip.factor for strip in self.strips)


def image_gallery(store: Store, model: ModelResults, class_names: Mapping[str, Sequence[str]], budget: int = BUDGET) -> ImageGallery | None:
    """A few samples of every scenario at up to three severities, the same ones where scenarios share them; None without images.

    class_names: names of the labels by cell; a cell without them shows labels as numbers. budget: the largest number of images;
    where it is short, first fewer samples, then fewer severities, then fewer scenarios are shown.
    """
    cells, damaged = _stored_images(store, model, class_names)
    if not any(cells.values()):
        return None
    levels_by_key = _chosen_levels(cells, budget)
    shown = dict(list(levels_by_key.items())[:budget])
    count = max(1, min(_SAMPLES, budget // max(1, sum(len(levels) for levels in shown.values()))))
    order = _samples(cells)
    attacks = _attacks(model)
    strips = [
        _strip(cells, key, shown, sample, differing=key[0] in attacks)
        for key, levels in shown.items()
        for sample in _stored_samples([cells[ScenarioSetting(*key, level)] for level in levels], order)[:count]
    ]
    reduced = not all(image.crisp for strip in strips for image in strip.images if image.uri)
    return ImageGallery(model, tuple(strips), reduced, len(levels_by_key) - len(shown), damaged)


def image_budget(models: int) -> int:
    """The number of images that each of so many models may show."""
    return max(16, min(BUDGET, _PAGE_BUDGET // max(1, models)))


def _stored_images(
    store: Store, model: ModelResults, class_names: Mapping[str, Sequence[str]]
) -> tuple[dict[ScenarioSetting, list[StoredImage]], str]:
    """The gallery of every cell, and the message of a damaged one."""
    found, damaged = {}, ""
    for row in model.cells.drop_duplicates("cell").itertuples():
        setting, cell = ScenarioSetting(str(row.scenario), str(row.params), str(row.severity)), str(row.cell)
        try:
            found[setting] = _rows(store.gallery(cell), class_names.get(cell, ()))
        except StoreDamaged as error:
            damaged = str(error)
    return found, damaged


def _rows(images: pd.DataFrame, names: Sequence[str]) -> list[StoredImage]:
    found = []
    for row in images.to_dict("records") if len(images) else ():
        label, pred = int(row["label"]), None if pd.isna(row["pred"]) else int(row["pred"])
        prediction, correct = ("", None) if pred is None else (_name(pred, names), pred == label)
        found.append(StoredImage(str(row["sample"]), _name(label, names), prediction, correct, bytes(row["image"])))
    return found


def _name(label: int, names: Sequence[str]) -> str:
    """A class's name; its number where none has a name, "none" beyond those that have."""
    if not names:
        return str(label)
    return names[label] if 0 <= label < len(names) else "none"


def _chosen_levels(cells: Mapping[ScenarioSetting, list[StoredImage]], budget: int) -> dict[tuple[str, str], list[str]]:
    """Up to three severities of each scenario, fewer where the budget is short; the clean images come first."""
    settings = sorted((setting for setting, rows in cells.items() if rows), key=lambda setting: setting.scenario != "clean")
    levels = grouped(((setting.scenario, setting.params), setting.severity) for setting in settings)
    for count in range(_LEVELS, 1, -1):
        chosen = {key: _spread(sorted_levels(found), count) for key, found in levels.items()}
        if sum(map(len, chosen.values())) <= budget:
            return chosen
    return {key: _spread(sorted_levels(found), 1) for key, found in levels.items()}


def _spread(levels: list[str], count: int) -> list[str]:
    """One to three of the levels: the middle one, the outer two, or all three of these."""
    middle = levels[(len(levels) - 1) // 2]
    wanted = {1: [middle], 2: [levels[0], levels[-1]], 3: [levels[0], middle, levels[-1]]}[count]
    return list(dict.fromkeys(wanted))


def _samples(cells: Mapping[ScenarioSetting, list[StoredImage]]) -> list[str]:
    """Samples by the number of cells that have them; among equals, samples classified correctly when clean come first."""
    clean = next((rows for setting, rows in cells.items() if setting.scenario == "clean" and rows), [])
    correct = {row.sample for row in clean if row.correct}
    counts = Counter(row.sample for rows in cells.values() for row in rows)
    return sorted(counts, key=lambda sample: (-counts[sample], sample not in correct))


def _stored_samples(levels: Sequence[list[StoredImage]], order: Sequence[str]) -> list[str]:
    """The samples that any level of a scenario has, in a given order."""
    stored = {row.sample for rows in levels for row in rows}
    return [sample for sample in order if sample in stored]


def _attacks(model: ModelResults) -> set[str]:
    """The scenarios of a model whose images differ from the clean ones pixel by pixel: attacks that do not move them."""
    attacked = {setting.scenario for setting in model.points("robust_accuracy")}
    entries = registry.entries("attack")
    return {name for name in attacked if (entry := entries.get(name)) is None or entry.family != _MOVED}


def _strip(
    cells: Mapping[ScenarioSetting, list[StoredImage]],
    key: tuple[str, str],
    shown: Mapping[tuple[str, str], list[str]],
    sample: str,
    *,
    differing: bool = False,
) -> Strip:
    rows = [(level, row) for level in shown[key] for row in cells[ScenarioSetting(*key, level)] if row.sample == sample]
    images = [_image(row, key[0], level) for level, row in rows]
    title, label = scenario_title(key, shown), rows[0][1].label
    clean = next((row.content for at, own in cells.items() if at.scenario == "clean" for row in own if row.sample == sample), None)
    if clean is None or not differing:
        return Strip(title, label, tuple(images))
    found = amplified_differences(clean, [row.content for _, row in rows])
    shown_beside = [replace(image, difference=uri) for image, uri in zip(images, found.uris, strict=True)]
    return Strip(title, label, tuple(shown_beside), found.factor if any(found.uris) else 0)


def _image(row: StoredImage, scenario: str, level: str) -> GalleryImage:
    uri, crisp = data_uri(row.content)
    stem, frame = clip(row.sample)
    level = level if stem == row.sample else f"frame {frame}"
    title = f"{with_spaces(scenario)} {level}".strip()
    tip = "\n".join((title, row.sample, f"label: {row.label}", f"prediction: {row.prediction or 'none'}"))
    return GalleryImage(uri, crisp, level, row.prediction, row.correct, tip)
