"""Raw arrays in one `.npz` file."""

from __future__ import annotations

import tokenize
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import numpy as np
from annotated_types import Ge, Gt, Le

from robustvit.data.annotations.wnids import readings
from robustvit.data.formats.array_headers import refuse_lies
from robustvit.data.formats.arrays import ArrayDataset, array_dataset
from robustvit.data.formats.image_dataset import numbered_classes
from robustvit.data.formats.listing import need
from robustvit.errors import DataMissing, DataUnreadable, few
from robustvit.primitives.batch import Traits
from robustvit.spec.given import why_not_regular
from robustvit.spec.registry import dataset

_KEYS = ("images", "labels", "ids", "classes")
_DAMAGED = (  # what numpy and zipfile raise on bytes that are no whole file of arrays
    OSError, ValueError, TypeError, SyntaxError, EOFError, MemoryError, RecursionError, OverflowError, NotImplementedError, RuntimeError,
    tokenize.TokenError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip
_SPLITS = ("test", "val", "train")


@dataset(
    source="your own arrays",
    licence="set by their owner",
    rules="Your own arrays: `--data npz:FILE.npz` with images (N, H, W, 3) uint8 and labels (N,), made by numpy.savez. A file of MedMNIST: "
    "`--data npz:pathmnist.npz`, its test images, or `?split=val`.",
)
def npz(
    root: Path | None, *, classes: Annotated[int, Gt(0)] | None = None, split: Literal["test", "val", "train"] | None = None,
    channels: Annotated[int, Ge(1), Le(4096)] = 3,
) -> ArrayDataset:  # fmt: skip
    """The arrays `images` (N, H, W, 3) uint8 RGB and `labels` (N,) of a file, with `ids` (N,) and `classes` (K,) of text if it has them.

    Grey images, (N, H, W) or (N, H, W, 1), get three equal channels; labels may be (N, 1). root: the file, or a folder with one such file
    in it. channels: other than three, images are (N, H, W, channels), and models take as many; each is resized as a grey image is.
    classes: their number, where the file does not name them; default, the largest label plus one. split: of a file with
    `test_images`, `test_labels`, `val_images`, …, as MedMNIST's 2D sets have them (Yang et al. 2023); default, `images` where the file has
    them, else the test split. Ids are the file's own, `npz/<row>`, or `npz/<split>/<row>`. Nothing in the file is executed.
    Raises DataMissing, DataUnreadable.
    """
    path = _the_file(need(root, "npz"))
    content = _read(path, split)
    images, labels = _images(content, path, channels), _labels(content, path)
    names = _texts(content, "classes", path) or numbered_classes(classes or int(labels.max()) + 1, str(path))
    outside = np.flatnonzero((labels < 0) | (labels >= len(names)))
    if len(outside):
        rows = few([str(row) for row in outside])
        raise DataUnreadable(f"{path}: {len(outside)} labels lie outside 0 … {len(names) - 1}: rows {rows}.")
    prefix = "npz" if content.split is None else f"npz/{content.split}"
    ids = _texts(content, "ids", path) or [f"{prefix}/{row:06d}" for row in range(len(labels))]
    if len(ids) != len(labels):
        raise DataUnreadable(f"{path}: {len(labels)} labels, but {len(ids)} ids.")
    own = Traits(channels=channels)
    return array_dataset("npz", images, labels, ids=ids, classes=names, readings=readings(names), traits=own)


def _the_file(place: Path) -> Path:
    if not place.is_dir():
        return place
    inside = sorted(place.glob("*.npz"))
    if len(inside) != 1:
        raise DataMissing(f"data 'npz': {place} holds {len(inside)} .npz files; give one, npz:{place}/NAME.npz.")
    return inside[0]


class _Content(NamedTuple):
    """The arrays of a file by the names in `_KEYS`. split: whose they are, where the file has several."""

    arrays: dict[str, np.ndarray]
    split: str | None


def _read(path: Path, split: str | None) -> _Content:
    if why := why_not_regular(path):
        raise DataUnreadable(f"{path} {why}; data 'npz' takes a .npz file.")
    try:
        refuse_lies(path)
        content = np.load(path, allow_pickle=False)
        if isinstance(content, np.ndarray):
            raise DataUnreadable(f"{path} is a single array; data 'npz' takes a .npz file with images and labels.")
        with content:
            chosen = _split(content.files, split, path)
            own = {"images": f"{chosen}_images", "labels": f"{chosen}_labels", "classes": "classes"}
            names = {key: key for key in _KEYS} if chosen is None else own
            return _Content({key: content[name] for key, name in names.items() if name in content.files}, chosen)
    except _DAMAGED as error:
        raise DataUnreadable(f"{path} is no .npz file of plain arrays: {error or type(error).__name__}.") from error


def _split(files: Sequence[str], split: str | None, path: Path) -> str | None:
    """The split that is read, None for a file's `images`. Raises DataUnreadable for one that the file does not have."""
    there = [one for one in _SPLITS if f"{one}_images" in files]
    chosen = split or ("test" if there and "images" not in files else None)
    if chosen is not None and chosen not in there:
        shown = few([f"{one}_images" for one in there]) or "no arrays of splits"
        raise DataUnreadable(f"{path} has no array '{chosen}_images'; it has {shown}. Choose with split=, or leave split out.")
    return chosen


def _images(content: _Content, path: Path, channels: int) -> np.ndarray:
    images = _array(content, "images", path)
    grey = channels == 3 and (images.ndim == 3 or (images.ndim == 4 and images.shape[-1] == 1))
    if images.dtype != np.uint8 or not (grey or (images.ndim == 4 and images.shape[-1] == channels)) or 0 in images.shape:
        wanted = "(N, H, W, 3) uint8, RGB in 0 … 255, or grey (N, H, W)" if channels == 3 else f"(N, H, W, {channels}) uint8"
        raise DataUnreadable(
            f"{path}: images are {images.shape} {images.dtype}; they must be {wanted}. Say of other channels how many (channels=), and "
            "bring 16 bits to 8 yourself."
        )
    return np.repeat(images.reshape(*images.shape[:3], 1), 3, axis=3) if grey else images


def _labels(content: _Content, path: Path) -> np.ndarray:
    labels, count = _array(content, "labels", path), len(content.arrays["images"])
    if labels.shape not in ((count,), (count, 1)) or not np.issubdtype(labels.dtype, np.integer):
        raise DataUnreadable(
            f"{path}: labels are {labels.shape} {labels.dtype}; they must be ({count},) whole numbers, one for each image."
        )
    return labels.reshape(count)


def _texts(content: _Content, key: str, path: Path) -> list[str]:
    if key not in content.arrays:
        return []
    texts = content.arrays[key]
    if texts.ndim != 1 or texts.dtype.kind != "U":
        raise DataUnreadable(f"{path}: {key} are {texts.shape} {texts.dtype}; they must be a row of text (dtype <U…).")
    return [str(text) for text in texts]


def _array(content: _Content, key: str, path: Path) -> np.ndarray:
    if key not in content.arrays:
        name = key if content.split is None else f"{content.split}_{key}"
        raise DataUnreadable(f"{path} has no array '{name}'; it must have images and labels, and may have ids and classes.")
    return content.arrays[key]
