"""Raw arrays in one `.npz` file."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import Annotated

import numpy as np
from annotated_types import Gt

from robustvit.data.annotations.wnids import readings
from robustvit.data.formats.arrays import ArrayDataset, array_dataset
from robustvit.data.formats.listing import need
from robustvit.errors import DataMissing, DataUnreadable, few
from robustvit.spec.registry import dataset

_KEYS = ("images", "labels", "ids", "classes")


@dataset(
    source="your own arrays",
    licence="set by their owner",
    rules="Your own arrays: `--data npz:FILE.npz` with images (N, H, W, 3) uint8 and labels (N,), made by numpy.savez.",
)
def npz(root: Path | None, *, classes: Annotated[int, Gt(0)] | None = None) -> ArrayDataset:
    """The arrays `images` (N, H, W, 3) uint8 RGB and `labels` (N,) of a file, with `ids` (N,) and `classes` (K,) of text if it has them.

    root: the file, or a folder with one such file in it. classes: their number, where the file does not name them; default, the largest
    label plus one. Ids are the file's own, or `npz/<row>`. Nothing in the file is executed.
    Raises DataMissing, DataUnreadable.
    """
    path = _the_file(need(root, "npz"))
    content = _read(path)
    images, labels = _images(content, path), _labels(content, path)
    names = _texts(content, "classes", path) or [str(i) for i in range(classes or int(labels.max()) + 1)]
    outside = np.flatnonzero((labels < 0) | (labels >= len(names)))
    if len(outside):
        rows = few([str(row) for row in outside])
        raise DataUnreadable(f"{path}: {len(outside)} labels lie outside 0 … {len(names) - 1}: rows {rows}.")
    ids = _texts(content, "ids", path) or [f"npz/{row:06d}" for row in range(len(labels))]
    if len(ids) != len(labels):
        raise DataUnreadable(f"{path}: {len(labels)} labels, but {len(ids)} ids.")
    return array_dataset("npz", images, labels, ids=ids, classes=names, readings=readings(names))


def _the_file(place: Path) -> Path:
    if not place.is_dir():
        return place
    inside = sorted(place.glob("*.npz"))
    if len(inside) != 1:
        raise DataMissing(f"data 'npz': {place} holds {len(inside)} .npz files; give one, npz:{place}/NAME.npz.")
    return inside[0]


def _read(path: Path) -> dict[str, np.ndarray]:
    try:
        content = np.load(path, allow_pickle=False)
        if isinstance(content, np.ndarray):
            raise DataUnreadable(f"{path} is a single array; data 'npz' takes a .npz file with images and labels.")
        with content:
            return {key: content[key] for key in _KEYS if key in content.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise DataUnreadable(f"{path} is no .npz file of plain arrays: {error}.") from error


def _images(content: dict[str, np.ndarray], path: Path) -> np.ndarray:
    images = _array(content, "images", path)
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] != 3 or 0 in images.shape:
        raise DataUnreadable(f"{path}: images are {images.shape} {images.dtype}; they must be (N, H, W, 3) uint8, RGB in 0 … 255.")
    return images


def _labels(content: dict[str, np.ndarray], path: Path) -> np.ndarray:
    labels, count = _array(content, "labels", path), len(content["images"])
    if labels.shape != (count,) or not np.issubdtype(labels.dtype, np.integer):
        raise DataUnreadable(
            f"{path}: labels are {labels.shape} {labels.dtype}; they must be ({count},) whole numbers, one for each image."
        )
    return labels


def _texts(content: dict[str, np.ndarray], key: str, path: Path) -> list[str]:
    if key not in content:
        return []
    texts = content[key]
    if texts.ndim != 1 or texts.dtype.kind != "U":
        raise DataUnreadable(f"{path}: {key} are {texts.shape} {texts.dtype}; they must be a row of text (dtype <U…).")
    return [str(text) for text in texts]


def _array(content: dict[str, np.ndarray], key: str, path: Path) -> np.ndarray:
    if key not in content:
        raise DataUnreadable(f"{path} has no array '{key}'; it must have images and labels, and may have ids and classes.")
    return content[key]
