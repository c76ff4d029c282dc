"""Images inside a page: data URIs of stored images, and of what an attack changed in them, amplified."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError

_CRISP = 64  # images up to this side are shown pixel by pixel
_SIDE = 160  # larger ones are downscaled to this
_QUALITY = 80
_FORMATS = {b"\x89PNG\r\n\x1a\n": "png", b"\xff\xd8\xff": "jpeg"}
_GREY = 128  # of a pixel that is unchanged
_FACTORS = (10, 5, 2, 1)


class Differences(NamedTuple):
    """What was changed in some images. factor: by how much it is amplified, 1 for not at all; uris: "" where there is none."""

    factor: int
    uris: tuple[str, ...]


def data_uri(content: bytes) -> tuple[str, bool]:
    """A `data:` URI of a PNG or JPEG, downscaled to 160 px where it is larger, and whether it is small enough to show its pixels.

    The URI is "" where the bytes are no image.
    """
    kind = next((name for magic, name in _FORMATS.items() if content.startswith(magic)), "")
    image = _opened(content)
    if not kind or image is None:
        return "", False
    if max(image.size) > _SIDE:
        return _downscaled(image), False
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}", max(image.size) <= _CRISP


def amplified_differences(clean: bytes, changed: Sequence[bytes]) -> Differences:
    """Changed images minus the clean one, amplified, around grey (128); beyond black and white they are cut off.

    All have the same factor, 10, or the largest of 5, 2 and 1 with which nothing is cut off. An image of another size has none.
    """
    before = _pixels(clean)
    found = [
        None if (after := _pixels(one)) is None or before is None or after.shape != before.shape else after - before for one in changed
    ]
    largest = max((int(np.abs(one).max()) for one in found if one is not None), default=0)
    factor = next((one for one in _FACTORS if one * largest < _GREY), 1)
    return Differences(factor, tuple("" if one is None else _png_uri(_GREY + factor * one) for one in found))


def _opened(content: bytes) -> Image.Image | None:
    """The image, decoded; None where the bytes are no PNG or JPEG."""
    try:
        image = Image.open(io.BytesIO(content), formats=["PNG", "JPEG"])
        image.load()
    except (UnidentifiedImageError, OSError, ValueError, Image.DecompressionBombError):
        return None
    return image


def _pixels(content: bytes) -> np.ndarray | None:
    image = _opened(content)
    return None if image is None else np.asarray(image.convert("RGB"), dtype=np.int16)


def _png_uri(values: np.ndarray) -> str:
    sink = io.BytesIO()
    Image.fromarray(np.clip(values, 0, 255).astype(np.uint8)).save(sink, "PNG")
    return data_uri(sink.getvalue())[0]


def _downscaled(image: Image.Image) -> str:
    small = image.convert("RGB")
    small.thumbnail((_SIDE, _SIDE), Image.Resampling.LANCZOS)
    sink = io.BytesIO()
    small.save(sink, "JPEG", quality=_QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(sink.getvalue()).decode()}"
