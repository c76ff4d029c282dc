"""Images whose class is written in one patch alone, so that it is known where an attribution map must point."""

from __future__ import annotations

import colorsys
from pathlib import Path
from typing import Literal

import numpy as np

from robustvit.data.digits import enlarged_digits
from robustvit.data.formats.arrays import ArrayDataset, array_dataset
from robustvit.primitives.batch import Traits
from robustvit.primitives.draws import Draws
from robustvit.spec.registry import dataset

_CLASSES, _SIDE, _PATCH = 10, 32, 8  # classes; pixels of an image and of a patch
_ACROSS = _SIDE // _PATCH


@dataset(
    name="digits_planted",
    source="made here, after the coloured-patch task of Nalmpantis et al. 2023, VISION DiffMask; digits of Alpaydin and Kaynak 1998, as "
    "scikit-learn ships them",
    url="https://arxiv.org/abs/2304.06391",
    licence="CC BY 4.0",
    rules="Nothing to download. The background is grey and drawn independently of the class, so that nothing but the patch tells it. A "
    "model must be trained on the training split first: one that misclassifies them rests on something else.",
)
def digits_planted(
    root: Path | None, *, split: Literal["test", "train"] = "test", background: Literal["digits", "noise"] = "digits",
    show: Literal["image", "truth"] = "image",
) -> ArrayDataset:  # fmt: skip
    """Grey images of 32 x 32 pixels with one patch of 8 x 8 pixels in one of ten hues, which is the class.

    The patch is one cell of the 4 x 4 grid; hue and cell are drawn from the sample's id, each uniformly and independently of the rest.
    background: the grey digit of the same number in `digits`, which is not the class, or uniform grey noise, a level for each pixel. show:
    `truth` gives in place of each image, by the same id, its truth map, white in the patch and black elsewhere, as the analysis pointing
    takes it. `fact_patch`: the row and the column of the patch's upper left pixel. root is not used.
    """
    found = enlarged_digits(split)
    ids = [f"digits_planted/{one.removeprefix('digits/')}" for one in found.ids]
    draws = Draws(0, "data/digits_planted", ids)
    labels = draws.at("class").integers(1, low=0, high=_CLASSES)[:, 0].numpy()
    cells = draws.at("place").integers(1, low=0, high=_ACROSS**2)[:, 0].numpy()
    corners = np.stack((cells // _ACROSS, cells % _ACROSS), axis=1) * _PATCH
    grey = (
        found.shares if background == "digits" else draws.at("background").integers(_SIDE, _SIDE, low=0, high=256).numpy().astype(np.uint8)
    )
    images = np.repeat((np.zeros_like(grey) if show == "truth" else grey)[..., None], 3, axis=3)
    colours = np.full((_CLASSES, 3), 255, np.uint8) if show == "truth" else hues()
    for image, (top, left), label in zip(images, corners, labels, strict=True):
        image[top : top + _PATCH, left : left + _PATCH] = colours[label]
    params = tuple((key, value) for key, value, usual in (("background", background, "digits"), ("show", show, "image")) if value != usual)
    return array_dataset(
        "digits_planted", images, labels, ids=ids, classes=[f"hue {360 * label // _CLASSES}" for label in range(_CLASSES)],
        traits=Traits(params=params, alike=show == "truth", facts={"fact_patch": corners.tolist()}),
    )  # fmt: skip


def hues() -> np.ndarray:
    """(10, 3) uint8: the saturated colour of each class, 36 degrees apart from red on."""
    return np.array(
        [[round(255 * part) for part in colorsys.hsv_to_rgb(label / _CLASSES, 1.0, 1.0)] for label in range(_CLASSES)], np.uint8
    )
