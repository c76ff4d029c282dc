"""Decodes image files to pixels, or says in one line why that is impossible."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from PIL import Image

from robustvit.errors import DataUnreadable

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "PPM", "JPEG2000")
"""The formats of Pillow that images are read in: those of the endings that count as images. Others, such as EPS, run other programs."""

# What Pillow's decoders are known to raise for bytes that are not a whole, valid image.
_BROKEN = (
    OSError, SyntaxError, ValueError, EOFError, OverflowError, struct.error, zlib.error,
    Image.DecompressionBombError, Image.DecompressionBombWarning,
)  # fmt: skip
_EIGHT_BIT = ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "LAB", "HSV")


def decode(content: bytes, name: str) -> np.ndarray:
    """Decodes an image file to (H, W, 3) uint8 RGB with Pillow: the first frame where it has several.

    Grey, palette, CMYK and transparent images are converted as Pillow converts them (transparency is dropped). The orientation in EXIF is
    not applied: the labels and published scores of ImageNet were made without it.
    Raises DataUnreadable, beginning with `name`, for bytes that are no whole image, for more than 8 bits a channel, and for sizes that
    Pillow refuses as decompression bombs.
    """
    if not content:
        raise DataUnreadable(f"{name}: the file is empty")
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            _refuse_unsafe(image, name)
            return np.asarray(image.convert("RGB"))
    except _BROKEN as error:
        raise DataUnreadable(f"{name}: {_first_line(error)}") from error


def decode_pages(content: bytes, name: str, channels: int) -> np.ndarray:
    """Decodes a TIFF file of one grey page for each channel to (H, W, channels) uint8.

    Raises DataUnreadable, beginning with `name`, as `decode` does, and for another format, number of pages, mode or sizes that differ.
    """
    if not content:
        raise DataUnreadable(f"{name}: the file is empty")
    try:
        with Image.open(io.BytesIO(content), formats=("TIFF",)) as image:
            _refuse_unsafe(image, name)
            count = int(getattr(image, "n_frames", 1))
            if count != channels:
                raise DataUnreadable(f"{name}: {count} pages, and {channels} channels are read from a page each")
            pages = [_grey_page(image, page, name) for page in range(count)]
    except _BROKEN as error:
        raise DataUnreadable(f"{name}: {_first_line(error)}") from error
    if len({page.shape for page in pages}) > 1:
        raise DataUnreadable(f"{name}: its pages have different sizes")
    return np.stack(pages, axis=2)


def _grey_page(image: Image.Image, page: int, name: str) -> np.ndarray:
    image.seek(page)
    _refuse_unsafe(image, name)
    if image.mode != "L":
        raise DataUnreadable(f"{name}: page {page} is of mode {image.mode}, and a channel is a grey page of 8 bits (L)")
    return np.array(image)


def _refuse_unsafe(image: Image.Image, name: str) -> None:
    width, height = image.size
    if Image.MAX_IMAGE_PIXELS is not None and width * height > Image.MAX_IMAGE_PIXELS:
        raise DataUnreadable(f"{name}: {width}x{height} pixels are more than the {Image.MAX_IMAGE_PIXELS} that Pillow considers safe")
    if image.mode not in _EIGHT_BIT:
        raise DataUnreadable(f"{name}: mode {image.mode} has more than 8 bits a channel; convert it to 8 bits")


def _first_line(error: BaseException) -> str:
    text = "not an image that Pillow can read" if str(error).startswith("cannot identify image file") else str(error)
    return text.splitlines()[0] if text else type(error).__name__
