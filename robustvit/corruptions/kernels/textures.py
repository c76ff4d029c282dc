"""Pictures of frost: the files of the installed `imagecorruptions` package, which is found and never imported."""

from __future__ import annotations

import functools
import importlib.util
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from robustvit.errors import DataMissing, MissingExtra

FILES = ("frost1.png", "frost2.png", "frost3.png", "frost4.jpg", "frost5.jpg")  # the sixth file is never drawn by the reference
_ENLARGED = 1.1
_SLOPE = -0.75


Resize = Callable[[NDArray[np.uint8], int, int], NDArray[np.uint8]]


def resized(picture: NDArray[np.uint8], rows: int, columns: int) -> NDArray[np.uint8]:
    """(H, W, 3) resized by cubic interpolation, without antialiasing; edge pixels are repeated.

    OpenCV gives the same but where a value lies within 3e-5 of the middle between two levels, and there, built with IPP, whatever its
    float32 sums give; built without IPP it weighs in parts of 2**11, and 4 to 5 % of the values differ by a level.
    """
    weighed = _weighed(_weighed(picture.astype(np.float64), columns, 1), rows, 0)
    return np.clip(np.rint(weighed), 0, 255).astype(np.uint8)


@functools.lru_cache(maxsize=32)
def frost_texture(index: int, height: int, width: int, resize: Resize = resized) -> Tensor:
    """Texture `index` for images of (height, width): uint8 (3, h, w), a tenth larger than needed to cover them at least.

    resize: (picture, rows, columns) → picture. Raises MissingExtra when `imagecorruptions` is not installed, DataMissing when it lacks the file.
    """
    path = _folder() / FILES[index]
    if not path.is_file():
        raise DataMissing(
            f"{path}: not there; frost needs this file of the package imagecorruptions. Reinstall it: pip install imagecorruptions."
        )
    picture = np.asarray(Image.open(path).convert("RGB"))
    scale = max(1.0, height / picture.shape[0], width / picture.shape[1]) * _ENLARGED
    rows, columns = (math.ceil(side * scale) for side in picture.shape[:2])
    return torch.from_numpy(resize(picture, rows, columns).transpose(2, 0, 1).copy())


def _folder() -> Path:
    found = importlib.util.find_spec("imagecorruptions")
    if found is None or not found.submodule_search_locations:
        raise MissingExtra(
            "frost takes its textures from the package imagecorruptions, which is not installed: pip install imagecorruptions."
        )
    return Path(next(iter(found.submodule_search_locations))) / "frost"


def _weighed(values: NDArray[np.float64], count: int, axis: int) -> NDArray[np.float64]:
    size = values.shape[axis]
    at = (np.arange(count) + 0.5) * (size / count) - 0.5
    low = np.floor(at).astype(np.int64)
    total = np.zeros(1)
    for tap in range(-1, 3):
        taken = np.take(values, np.clip(low + tap, 0, size - 1), axis=axis)
        total = total + taken * np.expand_dims(_cubic(np.abs(at - low - tap)), [other for other in range(3) if other != axis])
    return total


def _cubic(distance: NDArray[np.float64]) -> NDArray[np.float64]:
    """The weight of a pixel at a distance of at most 2 (Keys 1981, with the slope −0.75 that OpenCV takes)."""
    near = ((_SLOPE + 2) * distance - (_SLOPE + 3)) * distance**2 + 1
    far = ((_SLOPE * distance - 5 * _SLOPE) * distance + 8 * _SLOPE) * distance - 4 * _SLOPE
    return np.where(distance <= 1, near, far)
