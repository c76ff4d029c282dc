"""The frost textures of ImageNet-C (photographs in `frost/`), and the bicubic resizing that enlarges them."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from importlib import resources

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

FILES = ("frost1.png", "frost2.png", "frost3.png", "frost4.jpg", "frost5.jpg")  # the sixth file is never drawn by the reference
_ENLARGED = 1.1
_SLOPE = -0.75

Resize = Callable[[NDArray[np.uint8], int, int], NDArray[np.uint8]]


def resize_cubic(image: NDArray[np.uint8], rows: int, columns: int) -> NDArray[np.uint8]:
    """Resizes an image (H, W, 3) to (rows, columns, 3) by bicubic interpolation without antialiasing; edge pixels are repeated.

    OpenCV built with IPP gives the same levels, except where a value is within 3e-5 of the midpoint between two levels and its float32 sums
    round the other way. Built without IPP it quantizes the weights to 2**-11, and 4 to 5 % of the values differ by a level.
    """
    values = _interpolated(_interpolated(image.astype(np.float64), columns, 1), rows, 0)
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


@functools.lru_cache(maxsize=32)
def frost_texture(index: int, height: int, width: int, resize: Resize = resize_cubic) -> Tensor:
    """Frost texture `index` for images of (height, width), as imagecorruptions enlarges it: uint8 (3, h, w), a tenth larger than needed.

    resize: (image, rows, columns) → image, uint8 (H, W, 3).
    """
    photograph = frost_photograph(index)
    return _channels_first(_enlarged(photograph, max(1.0, _lacking(photograph, height, width)) * _ENLARGED, resize))


@functools.lru_cache(maxsize=32)
def covering_photograph(index: int, height: int, width: int) -> Tensor:
    """Frost photograph `index`, uint8 (3, h, w): as it is, and enlarged to cover images of (height, width) only where it is smaller."""
    photograph = frost_photograph(index)
    scale = _lacking(photograph, height, width)
    return _channels_first(photograph if scale <= 1.0 else _enlarged(photograph, scale, resize_cubic))


@functools.lru_cache(maxsize=8)
def frost_photograph(index: int) -> NDArray[np.uint8]:
    """Photograph `index` of FILES, uint8 (H, W, 3)."""
    with resources.files("robustvit.corruptions.kernels").joinpath("frost", FILES[index]).open("rb") as file:
        return np.asarray(Image.open(file, formats=("JPEG", "PNG")).convert("RGB"))


def _lacking(photograph: NDArray[np.uint8], height: int, width: int) -> float:
    """By how much a photograph has to be enlarged to cover an image."""
    rows, columns, _ = photograph.shape
    return float(max(height / rows, width / columns))


def _enlarged(photograph: NDArray[np.uint8], scale: float, resize: Resize) -> NDArray[np.uint8]:
    rows, columns = (math.ceil(side * scale) for side in photograph.shape[:2])
    return resize(photograph, rows, columns)


def _channels_first(image: NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(image.transpose(2, 0, 1).copy())


def _interpolated(values: NDArray[np.float64], count: int, axis: int) -> NDArray[np.float64]:
    size = values.shape[axis]
    at = (np.arange(count) + 0.5) * (size / count) - 0.5
    low = np.floor(at).astype(np.int64)
    total = np.zeros(1)
    for tap in range(-1, 3):
        taken = np.take(values, np.clip(low + tap, 0, size - 1), axis=axis)
        total = total + taken * np.expand_dims(_cubic(np.abs(at - low - tap)), [other for other in range(3) if other != axis])
    return total


def _cubic(distance: NDArray[np.float64]) -> NDArray[np.float64]:
    """The bicubic weight of a pixel at a distance of at most 2 (Keys 1981, with OpenCV's parameter −0.75)."""
    near = ((_SLOPE + 2) * distance - (_SLOPE + 3)) * distance**2 + 1
    far = ((_SLOPE * distance - 5 * _SLOPE) * distance + 8 * _SLOPE) * distance - 4 * _SLOPE
    return np.where(distance <= 1, near, far)
