"""A folder like a clone of model-vs-human with a few made-up images in every set, and made-up responses of people."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from robustvit.data.model_vs_human import categories, stimulus_sets

IN_FOLDERS = ("edge", "silhouette", "cue-conflict")
COLUMNS = ("subj", "Session", "trial", "rt", "object_response", "category", "condition", "imagename")


class Shown(NamedTuple):
    """An image of a set: its category, its condition as file names spell it, and the name it is joined by."""

    category: str
    condition: str
    image: str

    def named(self, who: str, trial: int) -> str:
        return f"{trial:04}_xyz_{who}_{self.condition}_{self.category}_00_{self.image}.png"


def shown_images(stimuli: str) -> list[Shown]:
    """Three images: of a condition that does not count, where there is one, and of two (or one) that do."""
    known = stimulus_sets()[stimuli].conditions
    left_out, counted = [name for name, counts in known.items() if not counts], [name for name, counts in known.items() if counts]
    conditions = [*left_out[:1], *counted, *counted][:3] if known else ["0"] * 3
    if stimuli == "cue-conflict":
        return [Shown("airplane", "0", "airplane1-bicycle2"), Shown("bear", "0", "bear3-truck1"), Shown("cat", "0", "cat2-cat9")]
    if stimuli in IN_FOLDERS:
        return [Shown(name, "0", f"{name}{i}") for i, name in enumerate(("airplane", "bear", "cat"), start=1)]
    return [Shown(name, conditions[i], f"n0{i}111531_{i}4126") for i, name in enumerate(("airplane", "bear", "cat"))]


def plant_set(root: Path, stimuli: str, shown: Iterable[Shown]) -> None:
    """Images of 224 px in the layout of the release, below `root/datasets`."""
    for seed, one in enumerate(shown):
        folder = root / "datasets" / stimuli
        place = folder / one.category / f"{one.image}.png" if stimuli in IN_FOLDERS else folder / "dnn/session-1" / one.named("dnn", seed)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(_encoded(seed))


def plant_responses(root: Path, stimuli: str, shown: list[Shown], given: list[list[str]]) -> None:
    """Tables below `root/raw-data`: given[p] are person p's responses to the first images, in order."""
    for person, chosen in enumerate(given, start=1):
        table = root / "raw-data" / stimuli / f"{stimuli}_subject-{person:02}_session_1.csv"
        table.parent.mkdir(parents=True, exist_ok=True)
        with table.open("w", newline="") as file:
            csv.writer(file).writerows([COLUMNS, *_rows(person, shown[: len(chosen)], chosen)])


def plant_clone(root: Path, people: int = 3) -> Path:
    """All seventeen sets with responses; person p is right about image i unless i + p is a multiple of three."""
    for stimuli in stimulus_sets():
        shown = shown_images(stimuli)
        plant_set(root, stimuli, shown)
        given = [[one.category if (i + person) % 3 else "na" for i, one in enumerate(shown)] for person in range(people)]
        plant_responses(root, stimuli, shown, given)
    assert len(categories()) == 16
    return root


def _rows(person: int, shown: Iterable[Shown], responses: Iterable[str]) -> Iterator[tuple[object, ...]]:
    for trial, (one, response) in enumerate(zip(shown, responses, strict=True), start=1):
        yield f"subject-{person:02}", 1, trial, 0.5, response, one.category, one.condition, one.named(f"s{person:02}", 40 - trial)


def _encoded(seed: int) -> bytes:
    """A chequered PNG of 224 px."""
    sink = io.BytesIO()
    coarse = np.random.default_rng(seed).integers(0, 256, (7, 7, 3), np.uint8)
    Image.fromarray(coarse.repeat(32, axis=0).repeat(32, axis=1)).save(sink, "PNG")
    return sink.getvalue()
