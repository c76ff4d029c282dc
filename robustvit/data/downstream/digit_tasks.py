"""Other questions about the handwritten digits than which they are: for pretraining, and for models that are tuned to a second task."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np

from robustvit.data.digits import coloured, colours_of, enlarged_digits
from robustvit.data.formats.arrays import ArrayDataset, array_dataset
from robustvit.primitives.draws import Draws
from robustvit.spec.registry import dataset

Task: TypeAlias = Literal["parity", "colour", "orientation"]
_CLASSES: dict[str, tuple[str, ...]] = {
    "parity": ("even", "odd"),
    "colour": ("red", "yellow", "green", "cyan", "blue", "magenta"),
    "orientation": ("upright", "a quarter turn left", "upside down", "a quarter turn right"),
}


@dataset(
    name="digit-tasks",
    source="Alpaydin and Kaynak 1998, Optical Recognition of Handwritten Digits, as scikit-learn ships it; labels made here",
    url="https://archive.ics.uci.edu/dataset/80/optical+recognition+of+handwritten+digits",
    licence="CC BY 4.0",
    rules="Nothing to download. The images of `digits`, with its ids and splits, and labels of another task: a backbone that learns colour "
    "or orientation of the training split has seen neither digits as labels nor a test image.",
)
def digit_tasks(root: Path | None, *, split: Literal["test", "train"] = "test", task: Task = "parity") -> ArrayDataset:
    """The coloured images of `digits` with labels of another task: parity of the digit, hue of its ink, or how the image was turned.

    task: `parity` is even or odd; `colour` the nearest of six hues, 60 degrees apart; `orientation` (Gidaris et al. 2018) one of four
    quarter turns, drawn from the id, by which the image is turned. root is not used.
    """
    found = enlarged_digits(split)
    colours = colours_of(found.ids)
    images = coloured(found.shares, colours)
    if task == "parity":
        labels = found.labels % 2
    elif task == "colour":
        labels = nearest_hue(colours.ink)
    else:
        labels = Draws(0, "digits/orientations", found.ids).integers(1, low=0, high=4)[:, 0].numpy()
        images = np.stack([np.rot90(image, turns) for image, turns in zip(images, labels, strict=True)])
    return array_dataset("digit-tasks", images, labels, ids=found.ids, classes=_CLASSES[task])


def nearest_hue(colours: np.ndarray) -> np.ndarray:
    """(N,) 0 … 5 for the nearest of red, yellow, green, cyan, blue and magenta in hue. colours: (N, 3), no two channels of one equal."""
    most, least, largest = colours.max(axis=1), colours.min(axis=1), colours.argmax(axis=1)
    rows = np.arange(len(colours))
    after, before = colours[rows, (largest + 1) % 3], colours[rows, (largest + 2) % 3]
    sextant = 2 * largest + (after - before) / (most - least)
    return np.asarray(np.rint(sextant).astype(np.int64) % 6)
